"""Measures activations of one batch of one layer: selection, moments, histograms, peaks."""
