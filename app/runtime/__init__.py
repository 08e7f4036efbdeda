"""The multimodal runtime: a GGUF model and messages in, tokens out."""
