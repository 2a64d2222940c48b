"""Full-text search over the contexts of a run, the same on SQLite and PostgreSQL."""
