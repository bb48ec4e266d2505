"""Tunes the methods of the experiments."""
