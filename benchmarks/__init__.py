"""How fast the server is, and the large database it is measured on. Not part of the package."""
