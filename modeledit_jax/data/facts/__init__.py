"""Facts to edit into language models: embedded, or from published files."""
