"""The search by statistics, and its query language."""
