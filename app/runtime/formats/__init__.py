"""Validated readers of GGUF files and of the model directory."""
