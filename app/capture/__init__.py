"""Microphone, ring buffer, VAD, segmenter and their fakes."""
