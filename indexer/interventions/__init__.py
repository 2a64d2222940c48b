"""Runs one text through the model: reading, ablation and logit attribution."""
