"""Training of the embedded demo model: data, stages, export. Needs the extra ``training``."""
