"""Reads runs from files that `neurarium export` or other programs wrote."""
