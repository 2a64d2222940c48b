"""A run, or some of its neurons, as a folder of pages that need no server."""
