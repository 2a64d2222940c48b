"""The list of models, a model, a layer."""
