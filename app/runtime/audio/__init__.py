"""Sound files to samples to log-mel features."""
