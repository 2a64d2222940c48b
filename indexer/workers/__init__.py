"""The same scan over many processes, on Ray."""
