"""Tasks: what a config, a data set and a model have to do with each other."""
