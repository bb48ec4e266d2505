"""Edit a long stream of facts into a language model."""
