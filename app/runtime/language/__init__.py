"""The language model: tokenizer, llama.cpp contexts, sampling."""
