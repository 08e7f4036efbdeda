"""Image files to pixels to normalised tiles."""
