"""The settings of `experiments.bias_mitigation`."""
