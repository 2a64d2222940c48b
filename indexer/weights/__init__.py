"""What the weights alone say about a neuron: logit effects, input tokens, similar neurons."""
