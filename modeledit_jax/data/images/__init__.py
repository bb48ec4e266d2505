"""Labeled images in four roles: embedded, published, or the user's."""
