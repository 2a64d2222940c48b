"""Indexing from start to finish: plan, passes, checkpoints, results, provenance."""
