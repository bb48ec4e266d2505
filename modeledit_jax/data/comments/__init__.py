"""Comments with identity terms: embedded, or from published files."""
