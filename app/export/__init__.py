"""Runs as files: JSON lines, tables and other programs' formats, for the command and the API."""
