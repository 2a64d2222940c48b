"""Steering a text with units, as JSON and as a page."""
