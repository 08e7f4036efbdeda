"""Hearsee: a private desktop assistant that hears and sees."""

__version__ = "0.1.0"
