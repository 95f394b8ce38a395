"""Teachers and students: built, loaded, saved; the papers' architectures; layer-drop and layer maps; one traced
pass."""

from .building import (
    bert_config,
    classifier_from,
    encoder_of,
    give_body,
    layers_of,
    new_classifier,
    new_masked_lm,
    new_model,
)
from .checking import max_tokens_of
from .loading import fingerprint, load_classifier, load_masked_lm, load_student, save

__all__ = ["bert_config", "classifier_from", "encoder_of", "fingerprint", "give_body", "layers_of", "load_classifier",
           "load_masked_lm", "load_student", "max_tokens_of", "new_classifier", "new_masked_lm", "new_model", "save"]
