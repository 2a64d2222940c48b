"""Attention heads over a corpus: pairs of positions ranked, patterns scored, circuits read from the
weights.
"""
