"""All neurons on a custom text, or on two."""
