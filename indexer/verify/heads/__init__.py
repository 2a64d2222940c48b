"""Checks what a run stores of attention heads: recomputed one context at a time, by plain formulas
on eager attention, apart from the code of the scan."""
