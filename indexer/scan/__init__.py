"""The state of a scan over all batches, and the loop that fills it."""
