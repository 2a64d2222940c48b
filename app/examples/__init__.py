"""Examples as rows, as JSON and as lines of markup, for every page that has them."""
