"""Tables, figures and files that a run leaves behind."""
