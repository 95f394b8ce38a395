"""Recipes: one file a paper, in the paper's own order, with the paper's own settings and those of the miniature."""

from . import distilbert, mobilebert, soft_targets, teacher, tinybert

__all__ = ["distilbert", "mobilebert", "soft_targets", "teacher", "tinybert"]
