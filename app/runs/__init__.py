"""A run's provenance."""
