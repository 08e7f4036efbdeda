"""Hugging Face checkpoint to Hearsee model directory."""
