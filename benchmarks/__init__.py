"""Benchmarks of serving, indexing and storing. `benchmarks/README.md` says how to run them."""
