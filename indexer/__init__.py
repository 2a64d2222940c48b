"""The offline half of Neurarium: turns a model and a corpus into a store of facts about neurons."""
