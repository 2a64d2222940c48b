"""The go-to box, random neurons and the help page."""
