"""The closed world the demo model knows: words, sentences, scenes and answers."""
