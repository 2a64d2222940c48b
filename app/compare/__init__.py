"""Two neurons side by side, on one scale."""
