"""The same distillation, done with what else there is: what `speed.py` holds kdlab's speed against.

Ways of doing one piece of `Work`: a loop in plain PyTorch; transformers' `Trainer` with a `compute_loss`; TextBrewer;
torchdistill; and Trainer and TextBrewer "tuned", with what they offer for speed. Each is written as its own
documentation would have it, and all follow the same objective, on shuffled batches padded to the longest text of the
batch, with AdamW at one learning rate and no clipping. Three kinds of work:

    soft_targets   T^2 KL(teacher || student) of the classes, mean over texts
    intermediate   TinyBERT's: hidden states 0, 1, 2 <- 0, 3, 6 (0: the embeddings) by mean squared error through
                   learned projections, one a pair; attention of the layers 1, 2 <- 3, 6 by mean squared error
    mlm            DistilBERT's, on texts masked anew every time: 5 T^2 KL over all real tokens, 2 times cross-entropy
                   at the masked ones, 1 times 1 - cosine of the last hidden states

Where they cannot do the very same:

* attention: the plain loop, Trainer and TextBrewer read transformers' attention probabilities, which makes both models
  run its slower `eager` attention; torchdistill's hooks reach queries and keys, so that it compares the scores before
  the softmax, as TinyBERT does, and keeps the fast attention;
* weight decay: `Trainer` spares biases and LayerNorm, as it always does, and its AdamW is the fused one; the others
  get torch's as it comes;
* TextBrewer fetches every loss from the device at every step; it would save a checkpoint every epoch, too, but for a
  setting of 0 that its documentation does not mention;
* TextBrewer's cache keeps whole batches of soft targets, which are the same in every epoch, in another order;
* torchdistill's example scripts also meter every step; that is left out.

TextBrewer and torchdistill are in benchmarks/requirements.txt; without them their own functions raise an ImportError.
"""

from __future__ import annotations

import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from functools import cache, partial, wraps
from types import ModuleType
from unittest import mock

import datasets
import torch
import torch.nn.functional as F
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler

# torchdistill imports torchvision, whatever the work, and so does transformers wherever it finds one. Beside a CPU
# build of torch, the torchvision that pip takes (a CUDA build) cannot load its compiled image operators, and its import
# stops where it describes two of them to torch's compiler. No text needs these: they stay undescribed, and the rest is
# the real one. Only the first import can be helped, so import this module before kdlab and before transformers' models.
with suppress(ImportError), mock.patch("torch.library.register_fake", lambda *_, **__: lambda function: function):
    import torchvision  # noqa: F401

from transformers import (
    DataCollatorForLanguageModeling,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
    set_seed,
)

KINDS = ("soft_targets", "intermediate", "mlm")
HIDDEN = ((0, 0), (1, 3), (2, 6))       # pairs of a student's and a teacher's layer; 0 is the embeddings
ATTENTION = HIDDEN[1:]
SOFT, MASKED, COSINE = 5.0, 2.0, 1.0    # the weights of DistilBERT's three terms
MASKING_RATE = 0.15
WEIGHT_DECAY = 0.01
READS = {"soft_targets": {}, "intermediate": {"output_hidden_states": True, "output_attentions": True},
         "mlm": {"output_hidden_states": True}}       # what the models are to return beside logits


@dataclass(frozen=True)
class Work:
    """A distillation to be done: `student` is trained in place, and left in eval mode.

    Both models are BERTs: classifiers, or for "mlm" masked language models of one width. For "intermediate" they have
    2 and 6 layers and equally many heads. Of `data` the column "input_ids" is read: unpadded, special tokens included.
    """

    kind: str                   # of KINDS
    teacher: PreTrainedModel    # in eval mode
    student: PreTrainedModel
    data: datasets.Dataset
    tokenizer: PreTrainedTokenizerBase
    epochs: int
    batch_size: int
    learning_rate: float        # constant
    seed: int = 0
    T: float = 2.0


def _system(train: Callable[[Work], nn.Module | None]) -> Callable[[Work], nn.Module | None]:
    """`train` with its seeds set and nothing printed. It returns the last pair's projection where there is one."""
    @wraps(train)
    def quietly(work: Work) -> nn.Module | None:
        if work.kind not in KINDS:
            raise NotImplementedError(f"there is no work of the kind '{work.kind}'")
        set_seed(work.seed)
        with _quiet():
            projection = train(work)
        work.student.eval()
        return projection
    return quietly


# -- a loop in plain PyTorch -------------------------------------------------------------------------------------------

@_system
def plain_loop(work: Work) -> nn.Module | None:
    """What one writes in an afternoon, with torch and transformers."""
    model = _WithProjections(work)
    optimizer = torch.optim.AdamW(model.parameters(), lr=work.learning_rate, weight_decay=WEIGHT_DECAY)
    loader = DataLoader(_texts(work), work.batch_size, shuffle=True, collate_fn=_collator(work))
    model.train()
    work.teacher.eval()
    with _attention_probabilities(work):
        for _ in range(work.epochs):
            for batch in loader:
                with torch.no_grad():
                    known = work.teacher(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"],
                                         **READS[work.kind])
                loss = _objective(work, model(**batch), known, batch["attention_mask"].bool())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return model.last_projection()


class _WithProjections(nn.Module):
    """The student and, for "intermediate", its projections to the teacher's width: all that is to be trained."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        self.student, self.reads = work.student, READS[work.kind]
        widths = work.student.config.hidden_size, work.teacher.config.hidden_size
        pairs = HIDDEN if work.kind == "intermediate" else ()
        self.projections = nn.ModuleList(nn.Linear(*widths, bias=False) for _ in pairs)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None):
        """The student's outputs, and its hidden states projected, in the order of `HIDDEN`."""
        out = self.student(input_ids=input_ids, attention_mask=attention_mask, labels=labels, **self.reads)
        projected = [projection(out.hidden_states[layer])
                     for (layer, _), projection in zip(HIDDEN, self.projections, strict=False)]
        return out, projected

    def last_projection(self) -> nn.Module | None:
        return self.projections[-1] if self.projections else None


def _objective(work: Work, learned: tuple, known, real: Tensor) -> Tensor:
    """The loss of a batch from the outputs of `_WithProjections` and of the teacher; `real`, (B, L), marks tokens."""
    out, projected = learned
    if work.kind == "soft_targets":
        return _soft_targets(out.logits, known.logits, work.T)
    if work.kind == "intermediate":
        hidden = [_hidden_mse(ours, known.hidden_states[n], real)
                  for ours, (_, n) in zip(projected, HIDDEN, strict=True)]
        attention = [_attention_mse(out.attentions[m - 1], known.attentions[n - 1], real) for m, n in ATTENTION]
        return sum(hidden) + sum(attention)
    return SOFT * _soft_targets_of_tokens(out.logits, known.logits, real, work.T) + MASKED * out.loss \
        + COSINE * _cosine(out.hidden_states[-1], known.hidden_states[-1], real)


def _soft_targets(student: Tensor, teacher: Tensor, T: float) -> Tensor:
    return T**2 * F.kl_div(F.log_softmax(student / T, dim=-1), F.softmax(teacher / T, dim=-1), reduction="batchmean")


def _soft_targets_of_tokens(student: Tensor, teacher: Tensor, real: Tensor, T: float) -> Tensor:
    return _soft_targets(student[real], teacher[real], T)


def _hidden_mse(student: Tensor, teacher: Tensor, real: Tensor) -> Tensor:
    return F.mse_loss(student[real], teacher[real])


def _attention_mse(student: Tensor, teacher: Tensor, real: Tensor) -> Tensor:
    """Of tables (B, heads, L, L): mean over heads and pairs of real tokens."""
    pairs = real[:, None, :, None] & real[:, None, None, :]
    return ((student - teacher).square() * pairs).sum() / (pairs.sum() * student.shape[1])


def _cosine(student: Tensor, teacher: Tensor, real: Tensor) -> Tensor:
    return (1 - F.cosine_similarity(student[real], teacher[real], dim=-1)).mean()


# -- transformers' Trainer ---------------------------------------------------------------------------------------------

@_system
def trainer(work: Work) -> nn.Module | None:
    """`Trainer` with a `compute_loss` of one's own, as transformers' guide to distillation has it."""
    return _with_trainer(work, _texts(work))


@_system
def trainer_tuned(work: Work) -> nn.Module | None:
    """The same with its own means: batches of texts of like length, and bfloat16 for both models."""
    texts = _texts(work)
    texts = texts.add_column("length", [len(ids) for ids in texts["input_ids"]])    # else it looks at each text again
    return _with_trainer(work, texts, train_sampling_strategy="group_by_length", bf16=True)


def _with_trainer(work: Work, texts: datasets.Dataset, **settings) -> nn.Module | None:
    model = _WithProjections(work)
    work.teacher.eval()
    with tempfile.TemporaryDirectory() as folder, _attention_probabilities(work):
        arguments = TrainingArguments(
            folder, num_train_epochs=work.epochs, per_device_train_batch_size=work.batch_size,
            learning_rate=work.learning_rate, lr_scheduler_type="constant", weight_decay=WEIGHT_DECAY,
            max_grad_norm=0.0, seed=work.seed, use_cpu=True, report_to="none", logging_strategy="no",
            save_strategy="no", disable_tqdm=True, **settings)
        distiller = _DistillationTrainer(model, arguments, work=work, train_dataset=texts,
                                         data_collator=_collator(work))
        distiller.train()
        # What bfloat16 leaves behind would meet whoever trains next in this process: a forward pass that is wrapped,
        # and a setting that every `Accelerator` shares.
        distiller.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
        AcceleratorState._reset_state(reset_partial_state=True)
    return model.last_projection()


class _DistillationTrainer(Trainer):
    def __init__(self, *args, work: Work, **options) -> None:
        super().__init__(*args, **options)
        self.work = work

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        real = inputs["attention_mask"]
        with torch.no_grad(), self.accelerator.autocast():      # Trainer sees to the student's precision alone
            known = self.work.teacher(input_ids=inputs["input_ids"], attention_mask=real, **READS[self.work.kind])
        learned = model(**inputs)
        loss = _objective(self.work, learned, known, real.bool())
        return (loss, learned) if return_outputs else loss


# -- TextBrewer --------------------------------------------------------------------------------------------------------

@_system
def text_brewer(work: Work) -> nn.Module | None:
    """Its `GeneralDistiller`, which it recommends for one teacher and one task."""
    distiller = _with_textbrewer(work, "GeneralDistiller")
    return distiller.projs[len(HIDDEN) - 1] if work.kind == "intermediate" else None


@_system
def text_brewer_tuned(work: Work) -> None:
    """Its `BasicDistiller`, which can keep the teacher's logits in memory, batch by batch, after one pass."""
    if work.kind != "soft_targets":
        raise NotImplementedError("TextBrewer keeps nothing but logits, and its BasicDistiller reads nothing else")
    _with_textbrewer(work, "BasicDistiller", is_caching_logits=True)


def _with_textbrewer(work: Work, kind: str, **settings):
    textbrewer, collate, adapt = _textbrewer(), _collator(work), partial(_adapt, work.kind)
    with tempfile.TemporaryDirectory() as folder, _attention_probabilities(work):
        distiller = getattr(textbrewer, kind)(
            textbrewer.TrainingConfig(device="cpu", output_dir=folder, ckpt_frequency=0),
            textbrewer.DistillationConfig(**_brewed(work), **settings), work.teacher, work.student, adapt, adapt)
        loader = DataLoader(_texts(work), work.batch_size, shuffle=True,
                            collate_fn=lambda rows: _batch_for_two(collate(rows)))
        optimizer = torch.optim.AdamW(work.student.parameters(), lr=work.learning_rate, weight_decay=WEIGHT_DECAY)
        with distiller:
            distiller.train(optimizer, loader, num_epochs=work.epochs, **READS[work.kind])
    return distiller


@cache
def _textbrewer() -> ModuleType:
    """The package, with a projection such as the other systems have: its own has a bias."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")     # what Python's compiler says to its code
        import textbrewer
    textbrewer.register_new("projection", "linear_without_bias", partial(nn.Linear, bias=False))
    return textbrewer


def _brewed(work: Work) -> dict[str, object]:
    """The objective in TextBrewer's terms. Its soft targets lack the factor T^2, and come whenever logits do."""
    widths = [work.student.config.hidden_size, work.teacher.config.hidden_size]
    matches, weights = [], {}
    if work.kind == "soft_targets":
        weights = {"kd_loss_weight": work.T**2}
    elif work.kind == "intermediate":
        matches = [{"layer_S": m, "layer_T": n, "feature": "hidden", "loss": "hidden_mse", "weight": 1,
                    "proj": ["linear_without_bias", *widths]} for m, n in HIDDEN]
        matches += [{"layer_S": m - 1, "layer_T": n - 1, "feature": "attention", "loss": "attention_mse", "weight": 1}
                    for m, n in ATTENTION]
    else:
        matches = [{"layer_S": 0, "layer_T": 0, "feature": "hidden", "loss": "cos", "weight": COSINE}]
        weights = {"kd_loss_weight": SOFT * work.T**2, "hard_label_weight": MASKED}
    return {"temperature": work.T, "kd_loss_type": "ce", "intermediate_matches": matches, **weights}


def _adapt(kind: str, batch: dict[str, Tensor], out) -> dict[str, object]:
    """A model's outputs under TextBrewer's names: its adaptor. `layer_S` and `layer_T` count in these lists."""
    real = batch["attention_mask"]
    if kind == "soft_targets":
        return {"logits": out.logits}
    if kind == "intermediate":
        return {"hidden": out.hidden_states, "attention": out.attentions, "inputs_mask": real}
    losses = {} if out.loss is None else {"losses": out.loss}
    return {"logits": out.logits, "logits_mask": real, "hidden": out.hidden_states[-1:], "inputs_mask": real, **losses}


def _batch_for_two(batch) -> dict:
    """As a plain dict, which TextBrewer insists on; labels, where there are any, go to the student alone."""
    batch = dict(batch)
    if "labels" not in batch:
        return batch
    return {"student": batch, "teacher": {name: batch[name] for name in ("input_ids", "attention_mask")}}


# -- torchdistill ------------------------------------------------------------------------------------------------------

@_system
def torch_distill(work: Work) -> nn.Module | None:
    """Its distillation box, configured by a dict as its YAML files would be; the loop is the user's, as it wants."""
    get_distillation_box, register_collate_func = _torchdistill()
    register_collate_func(_collator(work), key="peers")
    teacher, student, criterion = _boxed(work)
    settings = {
        "num_epochs": work.epochs,
        "train_data_loader": {"dataset_id": "train", "collate_fn": "peers", "requires_supp": False,
                              "sampler": {"class_or_func": RandomSampler}, "kwargs": {"batch_size": work.batch_size}},
        "teacher": {"forward_proc": "forward_without_labels", "requires_grad": False, **teacher},
        "student": {"forward_proc": "forward_batch_only_as_kwargs", **student},
        "optimizer": {"key": "AdamW", "kwargs": {"lr": work.learning_rate, "weight_decay": WEIGHT_DECAY}},
        "criterion": criterion}
    work.teacher.eval()         # it leaves that to its user
    box = get_distillation_box(work.teacher, work.student, {"train": _texts(work)}, settings, torch.device("cpu"),
                               None, False, 1)
    for epoch in range(box.num_epochs):
        box.pre_epoch_process(epoch=epoch)
        for batch in box.train_data_loader:
            loss = box.forward_process(batch, targets=batch["attention_mask"].bool())      # `_Between` reads these
            box.post_forward_process(loss=loss)
        box.post_epoch_process()
    trained = box.student_model
    box.clean_modules()
    return trained.projections[-1] if work.kind == "intermediate" else None


def _boxed(work: Work) -> tuple[dict, dict, dict]:
    """Torchdistill's settings of teacher and student (whose modules are hooked) and of the criterion."""
    model_loss, terms = {}, {}
    ours, theirs, auxiliary = work.student.base_model_prefix, work.teacher.base_model_prefix, {}
    if work.kind == "soft_targets":
        # Without a weight for hard labels this loss leaves T^2 out as well.
        logits = {f"{who}_module_{what}": name for who in ("student", "teacher")
                  for what, name in (("path", "classifier"), ("io", "output"))}
        terms["soft"] = {"weight": work.T**2, "criterion": {"key": "KDLoss", "kwargs": {
            "temperature": work.T, "alpha": 0, "reduction": "batchmean", **logits}}}
        read = ["classifier"], ["classifier"]
    elif work.kind == "intermediate":
        ours = f"student.{ours}"        # inside of `Projected`
        inputs = [_layer(ours, m) for m, _ in HIDDEN]
        auxiliary = {"auxiliary_model_wrapper": {"key": "Projected", "kwargs": {
            "widths": (work.student.config.hidden_size, work.teacher.config.hidden_size), "inputs": inputs}}}
        for i, (_, n) in enumerate(HIDDEN):
            terms[f"hidden {i}"] = _Between(_hidden_mse, [f"projections.{i}"], [_layer(theirs, n)]).term(1.0)
        for m, n in ATTENTION:
            scores = partial(_scores_mse, heads=work.student.config.num_attention_heads)
            terms[f"attention {m}"] = _Between(scores, *([f"{_layer(body, layer)}.attention.self.{what}"
                                                          for what in ("query", "key")]
                                                         for body, layer in ((ours, m), (theirs, n)))).term(1.0)
        read = inputs, []
    else:
        last = [[_layer(body, model.config.num_hidden_layers)]
                for body, model in ((ours, work.student), (theirs, work.teacher))]
        soft = partial(_soft_targets_of_tokens, T=work.T)
        terms = {"soft": _Between(soft, ["cls"], ["cls"]).term(SOFT), "cosine": _Between(_cosine, *last).term(COSINE)}
        model_loss = {"model_term": {"weight": MASKED}}
        read = [], []
    between = [term["criterion"] for term in terms.values() if isinstance(term["criterion"], _Between)]
    student = {"forward_hook": {"output": [*read[0], *(path for loss in between for path in loss.student)]}}
    teacher = {"forward_hook": {"output": [*read[1], *(path for loss in between for path in loss.teacher)]}}
    return teacher, student | auxiliary, {"key": "WeightedSumLoss", "func2extract_model_loss": "masked_lm",
                                          "kwargs": {"sub_terms": terms, **model_loss}}


def _layer(body: str, layer: int) -> str:
    """The path of the module whose output is a BERT's hidden state `layer`."""
    return f"{body}.encoder.layer.{layer - 1}" if layer else f"{body}.embeddings"


class _Between(nn.Module):
    """A loss for torchdistill: `function` of outputs of the student's and the teacher's modules, and of the mask."""

    def __init__(self, function: Callable[..., Tensor], student: list[str], teacher: list[str]) -> None:
        super().__init__()
        self.function, self.student, self.teacher = function, student, teacher

    def forward(self, student: dict, teacher: dict, real: Tensor) -> Tensor:
        return self.function(*(student[path]["output"] for path in self.student),
                             *(teacher[path]["output"] for path in self.teacher), real)

    def term(self, weight: float) -> dict[str, object]:
        return {"criterion": self, "weight": weight}


def _scores_mse(our_queries: Tensor, our_keys: Tensor, their_queries: Tensor, their_keys: Tensor, real: Tensor,
                heads: int) -> Tensor:
    """`_attention_mse` of Q K^T / sqrt(d), from queries and keys (B, L, width) of all heads."""
    def scores(queries: Tensor, keys: Tensor) -> Tensor:
        queries, keys = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (queries, keys))
        return queries @ keys.transpose(-1, -2) / queries.shape[-1] ** 0.5
    return _attention_mse(scores(our_queries, our_keys), scores(their_queries, their_keys), real)


@cache
def _torchdistill() -> tuple[Callable, Callable]:
    """What makes its distillation boxes and what makes collators known to it, once it knows the three parts below."""
    from torchdistill.core.distillation import get_distillation_box
    from torchdistill.core.interfaces.registry import register_forward_proc_func
    from torchdistill.datasets.registry import register_collate_func
    from torchdistill.losses.registry import register_func2extract_model_output
    from torchdistill.models.registry import register_auxiliary_model_wrapper
    from torchdistill.models.wrapper import AuxiliaryModelWrapper

    @register_auxiliary_model_wrapper(key="Projected")
    class Projected(AuxiliaryModelWrapper):
        """Its way to learn something beside the student: projections of what hooks saw, hooked in turn."""

        def __init__(self, student_model: nn.Module, widths: tuple[int, int], inputs: list[str], **_) -> None:
            super().__init__()
            self.student, self.inputs = student_model, inputs
            self.projections = nn.ModuleList(nn.Linear(*widths, bias=False) for _ in inputs)

        def forward(self, **batch):
            return self.student(**batch)

        def secondary_forward(self, seen: dict) -> None:
            for projection, path in zip(self.projections, self.inputs, strict=True):
                projection(seen[path]["output"])

    @register_forward_proc_func(key="forward_without_labels")
    def forward_without_labels(model: nn.Module, batch: dict[str, Tensor], *_, **__):
        return model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])

    @register_func2extract_model_output(key="masked_lm")
    def masked_lm(out, *_, **__) -> dict[str, Tensor]:
        """The loss that the student has computed by itself, where it was given labels."""
        return {} if out.loss is None else {"masked LM": out.loss}

    return get_distillation_box, register_collate_func


# -- what all of them need ---------------------------------------------------------------------------------------------

def _texts(work: Work) -> datasets.Dataset:
    return work.data.select_columns(["input_ids"])


def _collator(work: Work) -> Callable[[list[dict]], dict[str, Tensor]]:
    if work.kind == "mlm":
        return DataCollatorForLanguageModeling(work.tokenizer, mlm_probability=MASKING_RATE)
    return DataCollatorWithPadding(work.tokenizer)


@contextmanager
def _attention_probabilities(work: Work) -> Iterator[None]:
    """Where the work reads attention, both models compute it so that transformers can return it."""
    models = (work.teacher, work.student) if work.kind == "intermediate" else ()
    before = [model.config._attn_implementation for model in models]
    for model in models:
        model.set_attn_implementation("eager")
    try:
        yield
    finally:
        for model, implementation in zip(models, before, strict=True):
            model.set_attn_implementation(implementation)


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars (TextBrewer's has no switch, but sees that it is no terminal), reports or warnings."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


for load in (_textbrewer, _torchdistill):      # here, so that no one's time includes it
    with suppress(ImportError):
        load()

SYSTEMS: dict[str, Callable[[Work], nn.Module | None]] = {
    "plain loop": plain_loop, "Trainer": trainer, "Trainer, tuned": trainer_tuned, "TextBrewer": text_brewer,
    "TextBrewer, tuned": text_brewer_tuned, "torchdistill": torch_distill}
