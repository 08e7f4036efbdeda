"""The two media encoders as ggml graphs."""
