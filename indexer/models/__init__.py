"""Loads a model, describes its layout and captures activations at a hook point."""
