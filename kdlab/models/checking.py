"""What a checkpoint is before its weights are read: what is refused by name, and how its classes and tokens count."""

from __future__ import annotations

import json
import math
from importlib.util import find_spec
from pathlib import Path

from transformers import CONFIG_MAPPING, PreTrainedConfig

from ..errors import KdlabError

OTHER_HEADS = {"ForTokenClassification": "labels each token of a text", "ForMultipleChoice": "chooses between texts",
               "ForQuestionAnswering": "marks the answer to a question in a text"}
POSITIONS_AFTER_PADDING = ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "roberta-prelayernorm", "mpnet",
                           "longformer", "data2vec-text", "ibert", "xmod")     # the first text position is pad + 1


def max_tokens_of(config: PreTrainedConfig) -> float:
    """How many tokens a model can read; infinity where its configuration sets no limit (T5, XLNet).

    RoBERTa and its kin count positions from pad_token_id + 1 on, so that they read fewer than max_position_embeddings.
    """
    most = getattr(config, "max_position_embeddings", None)
    if not most or most < 0:
        return math.inf
    return most - config.pad_token_id - 1 if config.model_type in POSITIONS_AFTER_PADDING else most


def check_folder(folder: Path, kind: str, auto: type) -> None:
    """Raise `KdlabError` for a folder that holds another thing than a whole model that can be read safely.

    kind: in words, what it was to be; auto: the class of `transformers` to load it with.
    """
    def files(pattern: str) -> list[str]:
        return sorted(path.name for path in folder.glob(pattern))

    whole = files("model*.safetensors")
    if files("adapter_config.json") and not whole:
        base = _json(folder / "adapter_config.json").get("base_model_name_or_path") or "its base model"
        _refuse(folder, kind, f"it is an adapter, such as LoRA's, for {base}, and no whole model", "merge the two with "
                "peft, model.merge_and_unload().save_pretrained(FOLDER), save the tokenizer there, and give FOLDER")
    if files("modules.json") and not files("config.json"):
        body = next((path.parent for path in sorted(folder.glob("*/config.json"))), folder)
        _refuse(folder, kind, "it is a sentence-transformers model, which gives each text a vector and no classes",
                f"a student can start from its body: give {body}")
    if not files("config.json"):
        return
    config = _json(folder / "config.json")
    if config.get("auto_map") and config.get("model_type") not in CONFIG_MAPPING:
        _refuse(folder, kind, f"its architecture '{config.get('model_type')}' is code of its own, named in auto_map, "
                "and kdlab runs no code of a checkpoint", "take a model of an architecture that transformers has")
    if (pickled := files("pytorch_model*.bin")) and not whole:
        _refuse(folder, kind, f"its weights lie in {pickled[0]} alone, a pickle, which can run any code", "if you "
                f"trust it, write them anew: python -c \"from transformers import {auto.__name__} as A; "
                f"A.from_pretrained('{folder}').save_pretrained('{folder}')\"")
    pieces = [*files("*.model"), *files("*.vocab")]
    if pieces and not files("tokenizer.json") and find_spec("sentencepiece") is None:
        _refuse(folder, kind, f"its tokenizer is {pieces[0]} alone, which the package sentencepiece reads", "run pip "
                "install sentencepiece, then python -c \"from transformers import AutoTokenizer as A; "
                f"A.from_pretrained('{folder}').save_pretrained('{folder}')\"")


def check_config(config: PreTrainedConfig, place: str, kind: str) -> None:
    """Raise `KdlabError` for weights that are no plain numbers."""
    if quantised := getattr(config, "quantization_config", None):
        told = quantised if isinstance(quantised, dict) else vars(quantised)
        _refuse(place, kind, f"its weights are quantised ({told.get('quant_method', 'by an unknown method')})",
                "give the checkpoint that it was made from")


def check_classifies(config: PreTrainedConfig, place: str, kind: str) -> None:
    """Put the classes in order, and raise `KdlabError` for a model that was trained to do something else than to give
    each text one of several classes, or a number."""
    name_classes(config, place)
    named = config.architectures or []
    for name in [named] if isinstance(named, str) else named:
        for head, does in OTHER_HEADS.items():
            if name.endswith(head):
                _refuse(place, kind, f"it is a {name}, which {does}", "give one fine-tuned to classify texts")
    if config.problem_type == "multi_label_classification":
        _refuse(place, kind, "its problem_type is multi_label_classification: each class is a yes or no of its own, "
                "and kdlab distills classes of which one is right", "give a model for such a task")
    if config.num_labels == 1 and config.problem_type is None and config.id2label[0] != "LABEL_0":
        _refuse(place, kind, f"it has one output, named '{config.id2label[0]}', and no problem_type, so that it may be "
                "the logit of a class", "if it is a score, write \"problem_type\": \"regression\" into its "
                "config.json;  if it is a yes or no, give a model with two outputs")


def name_classes(config: PreTrainedConfig, place: str) -> None:
    """Put a classifier's classes into the order of their numbers, each with a text for a name.

    Raises `KdlabError` for numbers other than 0, 1, 2, ... and for a name that two have.
    """
    numbers = sorted(config.id2label)
    names = [str(config.id2label[number]) for number in numbers]
    if numbers != list(range(len(numbers))):
        raise KdlabError(f"{place}: id2label in config.json names the classes {', '.join(map(str, numbers))} where "
                         f"0 to {len(numbers) - 1} are needed; correct it")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise KdlabError(f"{place}: id2label in config.json gives two classes the name '{twice}'; correct it")
    if names != list(config.id2label.values()):
        config.id2label = dict(enumerate(names))
        config.label2id = {name: number for number, name in enumerate(names)}


def _refuse(place: str | Path, kind: str, reason: str, advice: str) -> None:
    raise KdlabError(f"{place}: this cannot be loaded as {kind} ({reason}); {advice}")


def _json(path: Path) -> dict:
    """What a file holds; nothing where it is damaged, which `transformers` will say."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
