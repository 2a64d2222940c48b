"""One neuron on a custom text."""
