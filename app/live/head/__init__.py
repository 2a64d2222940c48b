"""One attention head on a custom text."""
