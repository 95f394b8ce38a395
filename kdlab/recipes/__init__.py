"""Recipes: one file per paper, in the paper's own order, with the paper's own defaults."""
