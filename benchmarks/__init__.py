"""How fast pages are served and models indexed, and what on; not in the package."""
