"""The full-precision reference: the published model in float32 PyTorch, eager, straight from a checkpoint folder.

Written from the model's description and independent of ``app.runtime``: it shares no mathematics with what it judges.
Needs the extra ``reference`` (torch, scipy, soundfile, safetensors, tokenizers, Pillow).
"""
