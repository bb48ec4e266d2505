"""Decoder language models, their training, and the hook for edits."""
