"""Conversation, policy and the turn from question to answer."""
