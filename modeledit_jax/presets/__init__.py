"""Methods by name: one TOML file for each, in a folder for each family of tasks."""
