"""The settings of `experiments.unlearning`."""
