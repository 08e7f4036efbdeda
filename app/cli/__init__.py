"""The hearsee commands."""
