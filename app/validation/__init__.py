"""Record, run and compare against a full-precision reference."""
