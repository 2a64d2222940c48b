"""Lists of neurons, held in the address of their page."""
