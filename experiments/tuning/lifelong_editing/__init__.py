"""The settings of `experiments.lifelong_editing`."""
