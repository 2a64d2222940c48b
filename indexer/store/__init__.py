"""The store: its schema, database connections, runs, notes and the format of packed columns."""
