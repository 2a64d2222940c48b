"""The searches by token and by text."""
