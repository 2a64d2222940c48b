"""A context, and the neurons that have it among their examples."""
