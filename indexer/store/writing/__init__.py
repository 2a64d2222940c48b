"""Writes a finished run into the store in one transaction."""
