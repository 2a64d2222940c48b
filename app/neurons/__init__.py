"""A neuron's page, its examples by source, its whole contexts."""
