"""Whole runs read back, as the writer takes them: for copies and for files."""
