"""Editors of toxicity classifiers that searches are compared with."""
