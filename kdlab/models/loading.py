"""Models from a folder, from data/ or from the Hub, and back into a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from hashlib import sha256
from pathlib import Path

import torch
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
from .checking import check_classifies, check_config, check_folder, max_tokens_of

NOTED = ("architectures", "dtype", "torch_dtype")   # in a configuration when its model is saved; they decide nothing


def load_classifier(name: str | Path = "restaurant-teacher") -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A classifier and its tokenizer: one that ships in data/, a local folder, or "owner/name" on the Hub.

    The model comes in eval mode and float32, its classes in the order of their numbers. The tokenizer knows how many
    tokens the model reads, and has a pad token. Raises `KdlabError` for a folder that is missing or incomplete, weights
    that are damaged, missing, pickled, quantised or for another architecture, a model that was made to do something
    else (`kdlab.models.checking`), and a Hub that cannot be reached. No remote code, no pickles.
    """
    model, tokenizer, lost, place = _load(name, AutoModelForSequenceClassification, "a classifier", check_classifies)
    _check_whole(lost, place, "a fine-tuned classifier")
    return model, tokenizer


def load_student(name: str | Path, label_names: tuple[str, ...],
                 seed: int = 0) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A classifier of these labels that starts with the body of any checkpoint, pretrained or fine-tuned, and a fresh
    head by `seed`, whatever head the checkpoint has.

    Raises `KdlabError` as `load_classifier` does, except for a head that is missing or another's.
    """
    labels = labelled(PreTrainedConfig(), label_names)

    def relabel(config: PreTrainedConfig, *_: str) -> None:
        config.id2label, config.label2id, config.problem_type = labels.id2label, labels.label2id, labels.problem_type
    with torch.random.fork_rng(devices=[]):
        model, tokenizer, lost, place = _load(name, AutoModelForSequenceClassification, "a student", relabel,
                                              ignore_mismatched_sizes=True)
    body = f"{model.base_model_prefix}."
    _check_whole([key for key in lost if key.startswith(body) and "pooler" not in key], place, "a model's weights")
    _draw(model, {key for key, _ in model.named_parameters() if not key.startswith(body)} | set(lost), seed)
    return model, tokenizer


def load_masked_lm(name: str | Path = "restaurant-bert") -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """`load_classifier` for a masked language model: a pretrained teacher with its head."""
    model, tokenizer, lost, place = _load(name, AutoModelForMaskedLM, "a masked language model")
    _check_whole(lost, place, "a pretrained model with its language head")
    return model, tokenizer


def _load(name: str | Path, auto: type, kind: str, settle: Callable[[PreTrainedConfig, str, str], None] | None = None,
          **more) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, list[str], str]:
    """The model, its tokenizer, the names of weights that the checkpoint lacks, and where it lies.

    settle: checks and changes the configuration, told its place and the model's kind in words.
    """
    place, local = _place(name, kind, auto)
    options = {"local_files_only": local, "trust_remote_code": False}
    with _quiet():
        try:
            config = AutoConfig.from_pretrained(place, **options)
            check_config(config, place, kind)
            if settle:
                settle(config, place, kind)
            config._attn_implementation = None      # the fastest there is here, not where it was saved
            model, info = model_class(config, auto).from_pretrained(
                place, config=config, output_loading_info=True, use_safetensors=True, dtype=torch.float32, **options,
                **more)
            tokenizer = AutoTokenizer.from_pretrained(place, **options)
        except KdlabError:
            raise
        except Exception as error:      # transformers raises anything, by what is wrong and where it notices
            reason = " ".join(" ".join(str(error).splitlines()[:2]).split()).rstrip(".") or type(error).__name__
            advice = "fetch or save the folder again" if local else \
                "it is no local folder, so the Hub was asked: where there is a network, fetch it with " \
                f"`hf download {name} --local-dir FOLDER`, and give that folder"
            raise KdlabError(f"{place}: this cannot be loaded as {kind} ({reason}); {advice}") from error
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
    _agree_on_tokens(model.config, tokenizer, place)
    lost = [*info["missing_keys"], *(key if isinstance(key, str) else key[0] for key in info["mismatched_keys"])]
    return model.eval(), tokenizer, lost, place


def _check_whole(lost: Collection[str], place: str, wanted: str) -> None:
    for key in lost:
        raise KdlabError(f"{place}: the weights lack '{key}', so part of the model would be random; the folder must "
                         f"hold {wanted}")


def _agree_on_tokens(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, place: str) -> None:
    """A tokenizer that cuts texts at what the model reads, and that can pad: GPT-2 and Llama were trained without."""
    if (most := max_tokens_of(config)) < tokenizer.model_max_length:
        tokenizer.model_max_length = int(most)
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise KdlabError(f"{place}: the tokenizer has neither a pad token nor one that ends a text, so no two "
                             "texts make a batch; set its pad_token and save it again")
        tokenizer.pad_token = tokenizer.eos_token
    if config.pad_token_id is None or config.pad_token_id < 0:
        config.pad_token_id = tokenizer.pad_token_id


def _draw(model: PreTrainedModel, names: Collection[str], seed: int) -> None:
    """Draw these weights as `transformers` draws those that a checkpoint lacks."""
    for module_name, module in model.named_modules():
        for name, weight in module.named_parameters(recurse=False):
            weight._is_hf_initialized = f"{module_name}.{name}".lstrip(".") not in names
            module._is_hf_initialized = getattr(module, "_is_hf_initialized", True) and weight._is_hf_initialized
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model.initialize_weights()


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


def _place(name: str | Path, kind: str, auto: type) -> tuple[str, bool]:
    """Where the model lies, and whether that is here: a folder, or the name that the Hub knows it by."""
    for folder in (Path(name), DATA / name):
        check_folder(folder, kind, auto)
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
