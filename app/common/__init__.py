"""Errors, settings, paths, logging and units; imports nothing of ours."""
