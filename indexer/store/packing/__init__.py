"""Arrays ↔ the bytes of one database column."""
