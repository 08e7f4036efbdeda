"""Typed ctypes bindings over the libggml and libllama of llama-cpp-python."""
