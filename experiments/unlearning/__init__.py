"""Forget classes of an image classifier."""
