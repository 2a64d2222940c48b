"""Rechecks a stored run against its model."""
