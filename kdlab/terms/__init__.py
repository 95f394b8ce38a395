"""Loss terms: a loss with what it reads, and the weighted sum of several."""

from .inside import AttentionProbabilities, AttentionScores, HiddenCosine, HiddenStates, Hint, Patient, Relations
from .outputs import Custom, HardLabels, MaskedLM, SoftTargets
from .term import Objective, Reads, Term

__all__ = ["AttentionProbabilities", "AttentionScores", "Custom", "HardLabels", "HiddenCosine", "HiddenStates", "Hint",
           "MaskedLM", "Objective", "Patient", "Reads", "Relations", "SoftTargets", "Term"]
