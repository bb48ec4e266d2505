"""Pure metrics of a network's outputs, and the statistics that turn runs into claims."""
