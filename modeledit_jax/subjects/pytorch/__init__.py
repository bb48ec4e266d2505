"""Networks of PyTorch: read from their exported graph, run in JAX, written back as a state dict."""
