"""Attention heads: the picture of all heads of a model, the page of a head, a head in a context."""
