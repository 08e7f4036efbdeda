"""The speed and accuracy figures of the README."""
