"""The offline half of Neurarium: a model and a corpus go in, a store of neuron facts comes out."""
