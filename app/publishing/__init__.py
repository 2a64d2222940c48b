"""A run, or a part of its neurons, as a folder of pages that need no server."""
