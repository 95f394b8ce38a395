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

The released code (google-research, mobilebert/) compares layer-normed feature maps, weighs them 100, adds terms for
their means and variances, and pulls every layer to the statistics of all teacher layers at once, which looks like a
slip; we use the paper's equation. Its rates are 3.0 for the block at work and 0.3 below, hence the tenth here; only its
LAMB optimiser honours them, while `Stage.rates` holds for any. There is no next-sentence loss, since a text here is
one segment. As in the released code, the student's own dropout of attention is off while it copies attention, words are
drawn by count^-0.7 to be masked, and the losses of all layers are summed. Ours for its reasons: AdamW for LAMB, which
is for batches of thousands; each block's rate warms up over a tenth of its steps and decays to 0, since each block is a
stage of its own. Teacher weights were never released, so `kdlab.recipes.teacher` makes a small IB-BERT.
"""

from __future__ import annotations

from dataclasses import replace

from transformers import AutoModelForMaskedLM, PreTrainedModel

from ..data.batches import Rows
from ..data.masking import Masking, mask_once
from ..data.tasks import Task
from ..errors import KdlabError
from ..loop import Run, Stage, distill
from ..models.architectures import mobilebert_config
from ..models.building import new_model
from ..models.layer_map import LayerMap, bottom
from ..terms import AttentionProbabilities, HiddenStates, MaskedLM, Objective, SoftTargets, Term

ALPHA = 0.5
LOWER_RATE = 0.1
TRANSFERS = ("feature_maps", "attention")
STRATEGIES = ("auxiliary", "joint", "progressive")


def new_student(teacher: PreTrainedModel, seed: int = 0, **changes) -> PreTrainedModel:
    """A bottleneck student of the teacher's depth, with its embeddings and language head.

    changes: fields of `MobileBertConfig`, such as intra_bottleneck_size=32 for a miniature.
    """
    theirs = teacher.config
    same = {key: getattr(theirs, key) for key in (
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


def pretraining_distillation(distilled: bool = True) -> list[Term]:
    """L_PD, at the masked tokens; without the teacher it is plain masked language modelling."""
    return [MaskedLM(ALPHA), SoftTargets(1 - ALPHA, T=1.0, only_masked=True)] if distilled else [MaskedLM()]


def stages(student: PreTrainedModel, strategy: str, transfer_steps: int, pretraining_steps: int, masking: Masking,
           parts: tuple[str, ...] = TRANSFERS, distilled: bool = True, **settings) -> list[Stage]:
    """The stages of one of `STRATEGIES`, with the same number of steps in each.

    parts, distilled: what is left of the objective in an ablation; with no parts, transfer_steps go to L_PD.
    """
    if strategy not in STRATEGIES:
        raise KdlabError(f"there is no strategy '{strategy}'; take one of {', '.join(STRATEGIES)}")
    settings = {"transform": masking, "batch_size": 2048, "learning_rate": 1.5e-3} | settings
    depth, final = student.config.num_hidden_layers, pretraining_distillation(distilled)
    blocks = bottom(depth, depth)
    copying = {"attention_dropout": "attention" not in parts}
    if strategy == "auxiliary" or not parts or not transfer_steps:
        everything = transfer(blocks, parts) if parts else []
        steps = transfer_steps + pretraining_steps
        return [Stage(Objective([*everything, *final]), steps, name="all at once", **copying, **settings)]
    last = Stage(Objective(final), pretraining_steps, name="pre-training distillation", **settings)
    if strategy == "joint":
        return [Stage(Objective(transfer(blocks, parts)), transfer_steps, name="knowledge transfer",
                      **copying, **settings), last]
    return [Stage(Objective(transfer(((block, block),), parts)), transfer_steps // depth, name=f"block {block}",
                  rates=_progressive_rates(block), **copying, **settings) for block, _ in blocks] + [last]


def _progressive_rates(block: int) -> tuple[tuple[str, float], ...]:
    """The block at work learns at full rate, those below at a tenth, and nothing else at all."""
    layer = "mobilebert.encoder.layer.{}."
    return (*((layer.format(i), LOWER_RATE) for i in range(block - 1)), (layer.format(block - 1), 1.0), ("", 0.0))


def general(task: Task, teacher: PreTrainedModel, transfer_steps: int, pretraining_steps: int,
            strategy: str = "progressive", student: PreTrainedModel | None = None, parts: tuple[str, ...] = TRANSFERS,
            distilled: bool = True, seed: int = 0, learning_rate: float = 2e-3, batch_size: int = 64,
            masked_copies: int = 0, **options) -> tuple[PreTrainedModel, Run]:
    """A task-agnostic MobileBERT on the task's transfer split. `options` go to `distill`.

    masked_copies: of each text so many, masked once instead of anew every time, which is what a `cache=` needs.
    """
    student = new_student(teacher, seed) if student is None else student
    texts = task["transfer"]
    masking = Masking(task.tokenizer, Rows(texts, task.tokenizer.pad_token_id), rate=0.15, smoothing=0.7)
    plan = stages(student, strategy, transfer_steps, pretraining_steps, masking, parts, distilled,
                  learning_rate=learning_rate, batch_size=batch_size)
    if masked_copies:
        texts, plan = mask_once(texts, masking, masked_copies, seed), [replace(stage, transform=None) for stage in plan]
    return student, distill(student, teacher, texts, plan, seed=seed, **options)
