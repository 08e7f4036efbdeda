"""The runtime in its own process."""
