"""What touches the outside: configuration, checkpoints, run folders and figures."""
