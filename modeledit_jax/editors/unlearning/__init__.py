"""Editors that forget: references, gradients, closed form."""
