"""The notes that people write on neurons."""
