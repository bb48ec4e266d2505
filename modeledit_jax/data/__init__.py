"""Data sets as plain arrays, and their split into the four roles."""
