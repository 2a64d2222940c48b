"""Several neurons ablated at chosen tokens of a custom text."""
