"""The weights of the reward of `experiments.bias_mitigation` on real comments."""
