"""MobileBERT: Sun, Yu, Song, Liu, Yang, Zhou 2020 (arXiv 2004.02984), as deep as its teacher and very thin.

The two models (Table 1). Blocks of both pass on states of one width, 512, so that they can be compared
with no projection: the teacher IB-BERT widens them inside a block (inverted bottleneck, 1024), the student narrows
them (bottleneck, 128) and stacks several FFNs to keep the balance of attention and FFN. Embeddings are 128 wide and
read three neighbours at once; the student's norm is NoNorm, gamma * h + beta.

What is transferred, for block l, and then in pre-training distillation:

    L_FMT = 1/(T N) sum (H^tr_l - H^st_l)^2           feature maps: the blocks' outputs
    L_AT  = 1/(T A) sum KL(a^tr_l || a^st_l)          attention probabilities, head by head
    L_PD  = alpha L_MLM + (1 - alpha) L_KD            alpha = 0.5; L_KD reads the teacher's distribution at T = 1

In which order. Auxiliary: all at once. Joint: all blocks together, then L_PD. Progressive: block after
block from the bottom, then L_PD; the blocks below the one at work are not frozen but learn slowly. Embeddings and
language head start as the teacher's.

The released code (google-research, mobilebert/) weighs layer-normed feature maps 100, adds terms for their means and
variances, and pulls every layer to the statistics of all teacher layers, which looks like a slip; we use the paper's
equation. As in that code, attention dropout is off while attention is copied.

Departures at any size: AdamW for LAMB, which is for batches of thousands, with weight decay for matrices alone; each
block is a stage of its own, so its rate warms up for a tenth of its steps and decays to 0; losses are summed over
layers; masked words are drawn with odds count^-0.7, as in DistilBERT's code; a text is one segment, so there is no
next-sentence loss. Teacher weights were never released: `kdlab.recipes.teacher` makes a small IB-BERT.
"""

from __future__ import annotations

from collections.abc import Callable

from transformers import AutoModelForMaskedLM, PreTrainedModel

from ..data.masking import Masking
from ..data.tasks import Task
from ..errors import KdlabError
from ..loop import Run, Stage, distill
from ..models.architectures import mobilebert_config
from ..models.building import new_model
from ..models.layer_map import LayerMap, bottom
from ..terms import AttentionProbabilities, HiddenStates, MaskedLM, Objective, SoftTargets, Term
from .common import Settings, fields_of, fine_tuned, masked_beforehand, masking_of, texts_of, with_language_head

TRANSFERS, STRATEGIES = ("feature_maps", "attention"), ("auxiliary", "joint", "progressive")
ALPHA, LOWER_RATE = 0.5, 0.1        # code: distill_ground_truth_ratio; 0.3 for blocks below, 3.0 for the one at work
TEACHER = "ib-bert"                 # the architecture of `kdlab.recipes.teacher` that it learns from
PAPER: Settings = {
    "student": {"intra_bottleneck_size": 128, "intermediate_size": 512},        # Table 1
    "strategy": "progressive",                      # the paper's choice of `STRATEGIES`
    "masking": {"rate": 0.15, "smoothing": 0.7},    # BERT's 15%; the smoothing is ours
    "transfer": {"steps": 240_000, "batch_size": 2048, "learning_rate": 1.5e-3},      # code: README, of all blocks
    "pretraining": {"steps": 500_000, "batch_size": 2048, "learning_rate": 1.5e-3, "warmup": 0.02},     # code: README
    "task": {"epochs": 4.0, "batch_size": 32, "learning_rate": 5e-5},   # within its search: 2-10, 16-48, (1-10)e-5
}
MINIATURE: Settings = PAPER | {     # few steps, small batches, high rates: for minutes on a laptop and a narrow model
    "student": {"intra_bottleneck_size": 32, "intermediate_size": 64},  # half as wide as the shipped IB-BERT's outside
    "transfer": PAPER["transfer"] | {"steps": 240, "batch_size": 64, "learning_rate": 1e-2},
    "pretraining": PAPER["pretraining"] | {"steps": 60, "batch_size": 64, "learning_rate": 1e-2, "warmup": 0.1},
    "task": PAPER["task"] | {"steps": 100, "learning_rate": 3e-3},
}


def new_student(teacher: PreTrainedModel, seed: int = 0, **changes) -> PreTrainedModel:
    """A bottleneck student of the teacher's depth, with its embeddings and language head; changes: fields of
    `MobileBertConfig`, such as intra_bottleneck_size=32 for a miniature."""
    same = {key: getattr(teacher.config, key) for key in (
        "vocab_size", "hidden_size", "embedding_size", "num_hidden_layers", "num_attention_heads",
        "max_position_embeddings", "type_vocab_size", "pad_token_id")}
    student = new_model(mobilebert_config(**same | changes), AutoModelForMaskedLM, seed)
    for part in ("mobilebert.embeddings", "cls"):
        student.get_submodule(part).load_state_dict(teacher.get_submodule(part).state_dict())
    return student


def transfer(layers: LayerMap, parts: tuple[str, ...] = TRANSFERS, weight: float = 1.0) -> list[Term]:
    """L_FMT and L_AT of some blocks, or one of the two; `weight` times each."""
    terms = {"feature_maps": lambda: HiddenStates(layers, weight, name="feature maps"),
             "attention": lambda: AttentionProbabilities(layers, weight)}
    return [terms[part]() for part in parts]


def pretraining_distillation(distilled: bool = True, alpha: float = ALPHA) -> list[Term]:
    """L_PD, at the masked tokens; without the teacher it is plain masked language modelling."""
    return [MaskedLM(alpha), SoftTargets(1 - alpha, T=1.0, only_masked=True)] if distilled else [MaskedLM()]


def stages(student: PreTrainedModel, strategy: str, transfer_steps: int, pretraining_steps: int, masking: Masking,
           parts: tuple[str, ...] = TRANSFERS, distilled: bool = True, pretraining: Settings | None = None,
           **settings) -> list[Stage]:
    """The stages of one of `STRATEGIES`, of the same number of steps. parts, distilled: what an ablation leaves of the
    objective; with no parts, transfer_steps go to L_PD. settings, pretraining: of `Stage`, the latter of the last."""
    if strategy not in STRATEGIES:
        raise KdlabError(f"there is no strategy '{strategy}'; take one of {', '.join(STRATEGIES)}")
    settings = {"transform": masking, "batch_size": 2048, "learning_rate": 1.5e-3} | settings
    depth, final = student.config.num_hidden_layers, pretraining_distillation(distilled)
    blocks, copying = bottom(depth, depth), {"attention_dropout": "attention" not in parts}
    if strategy == "auxiliary" or not parts or not transfer_steps:
        everything = transfer(blocks, parts) if parts else []
        steps = transfer_steps + pretraining_steps
        return [Stage(Objective([*everything, *final]), steps, name="all at once", **copying, **settings)]
    last = Stage(Objective(final), pretraining_steps, name="pre-training distillation", **(pretraining or settings))
    if strategy == "joint":
        return [Stage(Objective(transfer(blocks, parts)), transfer_steps, name="knowledge transfer", **copying,
                      **settings), last]
    return [Stage(Objective(transfer(((block, block),), parts)), max(1, transfer_steps // depth), name=f"block {block}",
                  rates=_progressive_rates(block), **copying, **settings) for block, _ in blocks] + [last]


def _progressive_rates(block: int) -> tuple[tuple[str, float], ...]:
    """The block at work learns at full rate, those below at a tenth, and nothing else at all."""
    rates = [*[LOWER_RATE] * (block - 1), 1.0]
    return (*((f"mobilebert.encoder.layer.{i}.", rate) for i, rate in enumerate(rates)), ("", 0.0))


def general(task: Task, teacher: PreTrainedModel, transfer_steps: int, pretraining_steps: int,
            strategy: str = "progressive", student: PreTrainedModel | None = None, parts: tuple[str, ...] = TRANSFERS,
            distilled: bool = True, seed: int = 0, learning_rate: float = 1e-2, batch_size: int = 64,
            masked_copies: int = 0, **options) -> tuple[PreTrainedModel, Run]:
    """A task-agnostic MobileBERT on the task's plain texts. masked_copies: of each so many, masked once instead of
    anew every time, which is what a `cache=` needs. `options` go to `distill`."""
    student = new_student(teacher, seed) if student is None else student
    texts = texts_of(task)
    masking = masking_of(task, texts, PAPER["masking"])
    plan = stages(student, strategy, transfer_steps, pretraining_steps, masking, parts, distilled,
                  learning_rate=learning_rate, batch_size=batch_size)
    texts, plan = masked_beforehand(texts, plan, masked_copies, seed)
    return student, distill(student, teacher, texts, plan, seed=seed, **options)


def student_for(task: Task, teacher: PreTrainedModel | None, pretrained: PreTrainedModel | None = None,
                settings: Settings = MINIATURE, seed: int = 0) -> PreTrainedModel:
    pretrained = with_language_head(pretrained, "MobileBERT")
    if pretrained.config.model_type != "mobilebert":
        raise KdlabError(f"MobileBERT learns from an IB-BERT, such as kdlab.recipes.teacher makes; the pretrained "
                         f"teacher is a {type(pretrained).__name__}")
    return new_student(pretrained, seed, **settings["student"])


def recipe(task: Task, teacher: PreTrainedModel, pretrained: PreTrainedModel | None = None,
           settings: Settings = MINIATURE, seed: int = 0, student: PreTrainedModel | None = None,
           say: Callable[[str], object] = print, **options) -> tuple[PreTrainedModel, Run]:
    """Transfer, pre-training distillation, fine-tuning on labels (`kdlab.recipes` says what the arguments are)."""
    student = student_for(task, teacher, pretrained, settings, seed) if student is None else student
    texts = texts_of(task)
    masking = masking_of(task, texts, settings["masking"])
    copying, last = (fields_of(settings[name], len(texts)) for name in ("transfer", "pretraining"))
    plan = stages(student, settings["strategy"], copying.pop("steps"), last.pop("steps"), masking,
                  pretraining={"transform": masking} | last, **copying)
    run = distill(student, pretrained, texts, plan, seed=seed, **options)
    return fine_tuned(task, student, run, settings["task"], seed, **options)
