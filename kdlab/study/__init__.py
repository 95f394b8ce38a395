"""Studies: what a model is worth, methods compared, experiments on a user's files."""
