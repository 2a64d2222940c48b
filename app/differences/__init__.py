"""The differences between two runs of one model."""
