"""Custom text: what a loaded model does on a text that a visitor sends."""
