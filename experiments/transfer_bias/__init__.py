"""One policy mends toxicity classifiers it never saw."""
