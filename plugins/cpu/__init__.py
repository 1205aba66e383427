"""Decoder layers for a CPU in fewer, larger steps, from the model's own weights: README.md has the equations."""
