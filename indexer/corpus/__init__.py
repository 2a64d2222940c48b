"""Documents → contexts → a prepared token file → batches in one global order."""
