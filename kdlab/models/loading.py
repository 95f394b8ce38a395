"""Models from a folder, from data/ or from the Hub, and back into a folder."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from ..errors import KdlabError
from ..files import DATA, HUB_NAME, replaced_folder
from .bottleneck import model_class
from .building import labelled

NOTED = ("architectures", "dtype", "torch_dtype")   # in a configuration when its model is saved; they decide nothing
HEADS = ("classifier", "pre_classifier", "pooler", "bert.pooler", "roberta.pooler", "mobilebert.pooler")


def load_classifier(name: str | Path = "restaurant-teacher") -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A classifier and its tokenizer: one that ships in data/, a local folder, or "owner/name" on the Hub.

    The model comes in eval mode and float32. Raises `KdlabError` for a folder that is missing or incomplete,
    weights that are damaged, missing or for another architecture, and a Hub that cannot be reached. No
    remote code, no pickles.
    """
    return _load(name, AutoModelForSequenceClassification, "a classifier", "a fine-tuned classifier")


def load_student(name: str | Path, label_names: tuple[str, ...],
                 seed: int = 0) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A classifier of these labels that starts with the body of any checkpoint, pretrained or fine-tuned, and a fresh
    head. Raises `KdlabError` as `load_classifier` does, except for a head that is missing or another's."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        labels = vars(labelled(PreTrainedConfig(), label_names))
        head = {key: labels[key] for key in ("id2label", "label2id", "problem_type") if labels.get(key)}
        return _load(name, AutoModelForSequenceClassification, "a student", "a model's weights",
                     fresh=HEADS, ignore_mismatched_sizes=True, **head)


def load_masked_lm(name: str | Path = "restaurant-bert") -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """`load_classifier` for a masked language model: a pretrained teacher with its head."""
    return _load(name, AutoModelForMaskedLM, "a masked language model", "a pretrained model with its language head")


def _load(name: str | Path, auto: type, kind: str, wanted: str, fresh: tuple[str, ...] = (),
          **more) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """fresh: the beginnings of the names of weights that may be missing."""
    place, local = _place(name)
    options = {"local_files_only": local, "use_safetensors": True, "dtype": torch.float32, **more}
    with _quiet():
        try:
            config = AutoConfig.from_pretrained(place, local_files_only=local)
            model, info = model_class(config, auto).from_pretrained(place, output_loading_info=True, **options)
            tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=local)
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            reason = str(error).splitlines()[0].rstrip(".")
            advice = "fetch or save the folder again" if local else \
                "it is no local folder, so the Hub was asked: where there is a network, fetch it with " \
                f"`hf download {name} --local-dir FOLDER`, and give that folder"
            raise KdlabError(f"{place}: this cannot be loaded as {kind} ({reason}); {advice}") from error
    lost = [*info["missing_keys"], *(key if isinstance(key, str) else key[0] for key in info["mismatched_keys"])]
    lost = [key for key in lost if not key.startswith(fresh)] if fresh else lost
    if lost:
        raise KdlabError(f"{place}: the weights lack '{lost[0]}', so part of the model would be random; "
                         f"the folder must hold {wanted}")
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):     # made up, where there was none
        raise KdlabError(f"{place}: this cannot be loaded as {kind} (there is no tokenizer); save the model's own into "
                         "the folder")
    if len(tokenizer) > model.config.vocab_size:
        raise KdlabError(f"{place}: the tokenizer has {len(tokenizer)} tokens and the model's vocabulary ends at "
                         f"{model.config.vocab_size}, so they do not belong together; save the model's own tokenizer "
                         "into the folder")
    broken = next((key for key, weight in model.state_dict().items() if not weight.isfinite().all()), None)
    if broken:
        raise KdlabError(f"{place}: the weights of '{broken}' are not all numbers (NaN or infinity); fetch or save the "
                         "folder again")
    return model.eval(), tokenizer


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: str | Path, card: str = "") -> Path:
    """Write model and tokenizer to `folder` in `save_pretrained` form, and the model card, if there is one, as its
    README.md; whole or not at all. Raises `KdlabError` where the disk does not take it."""
    with replaced_folder(Path(folder)) as unfinished, _quiet():
        model.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        if card:
            (unfinished / "README.md").write_text(card, encoding="utf-8")
    return Path(folder)


def fingerprint(model: nn.Module) -> str:
    """A hash of every weight and of the configuration: equal for equal models, and only for them."""
    digest = sha256()
    config = getattr(model, "config", None)
    if config is not None:
        shape = {k: v for k, v in config.to_dict().items() if not k.startswith(("_", "transformers", *NOTED))}
        digest.update(json.dumps(shape, sort_keys=True, default=str).encode())
    for name, weight in sorted(model.state_dict().items()):
        if isinstance(weight, DTensor):     # of which this process has a part (`kdlab.engine.distributed.shard`)
            weight = weight.full_tensor()
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _place(name: str | Path) -> tuple[str, bool]:
    """Where the model lies, and whether that is here: a folder, or the name that the Hub knows it by."""
    for folder in (Path(name), DATA / name):
        if (folder / "config.json").is_file():
            return str(folder), True
    if HUB_NAME.fullmatch(str(name)) and not Path(name).parent.is_dir():
        return str(name), False
    shipped = sorted(path.parent.name for path in DATA.glob("*/config.json"))
    raise KdlabError(f"there is no model folder '{name}' (one that holds a config.json); give the path of "
                     f"one, the owner/name of one on the Hub, or name one that ships: {', '.join(shipped)}")


class _quiet:
    """Keep transformers' loading bars and reports off the page; what matters is raised."""

    def __enter__(self) -> None:
        self.level, self.bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()

    def __exit__(self, *_) -> None:
        logging.set_verbosity(self.level)
        if self.bars:
            logging.enable_progress_bar()
