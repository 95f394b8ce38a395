"""The command line: `python -m kdlab distill ...`, `export ...`, `teacher ...` and `cache ...`."""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import fields
from datetime import datetime
from pathlib import Path

from .errors import KdlabError
from .recipes import RECIPES
from .study.sizes import Sizes

LAYERS = 2          # of a layer-dropped student
LONGEST = 512       # tokens of a text that is scored; a model's own limit may be lower


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Defaults are shown where they say something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False) else super()._get_help_string(action)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 2 for input that cannot be right, 130 interrupted."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except KdlabError as error:
        print(f"kdlab: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        rest = "; the same command goes on from here" if options.command is _distill else ""
        print(f"kdlab: interrupted{rest}", file=sys.stderr)
        return 130
    return 0


def run() -> None:
    """The console script `kdlab`."""
    sys.exit(main())


def _distill(options: argparse.Namespace) -> None:
    from .data.tables import is_data_set
    from .data.tasks import file_task, hub_task
    from .engine import distributed
    from .engine.run import Runtime
    from .models import load_classifier, load_masked_lm, load_student
    from .models.layer_dropping import shallower
    from .recipes import named
    from .study.experiment import run_experiment, table

    sizes = Sizes(**{f.name: getattr(options, f.name) for f in fields(Sizes)})
    if options.recipe != "soft-targets" and options.student != "new":
        raise KdlabError(f"--student is for soft targets; the recipe {options.recipe} makes its own student")
    sizes.settings_of(named(options.recipe), 1, options.paper)      # what is no setting of the recipe is told here
    reading = {"text": options.text, "label": options.label, "pair": options.pair, "regression": options.regression,
               "vocabulary": options.vocabulary, "max_tokens": options.max_tokens}
    teacher = pretrained = new_student = theirs = None
    if options.pretrained:
        pretrained, reading["tokenizer"] = load_masked_lm(options.pretrained)
    if options.teacher:
        teacher, theirs = load_classifier(options.teacher)
        if pretrained is not None and theirs.get_vocab() != reading["tokenizer"].get_vocab():
            raise KdlabError(f"{options.pretrained}: this model and {options.teacher} read different tokens; give the "
                             "model that the teacher was fine-tuned from")
        reading["tokenizer"] = theirs
        if not options.regression:
            reading["label_names"] = tuple(teacher.config.id2label.values())
    if is_data_set(options.data):
        task = hub_task(options.data, options.subset, options.train_split, options.eval or "validation", **reading)
    elif options.eval:
        task = file_task(options.data, options.eval, **reading)
    else:
        raise KdlabError(f"{options.data}: there is no file to score on; give one with --eval")
    if teacher is not None and teacher.config.num_labels != len(task.label_names):
        raise KdlabError(f"{options.teacher}: this teacher has {teacher.config.num_labels} outputs, and the task needs "
                         f"{len(task.label_names)}; take another teacher, or check --regression")
    ours = task
    if options.student == "layer-drop":
        def new_student(seed, teacher):
            return shallower(teacher, sizes.student_layers or LAYERS)
    elif options.student != "new":
        student, tokenizer = load_student(options.student, task.label_names)
        if theirs is None or tokenizer.get_vocab() != theirs.get_vocab():
            ours = task.recoded(tokenizer)
        del student

        def new_student(seed, teacher):
            return load_student(options.student, task.label_names, seed)[0]
    runtime = Runtime(options.precision, options.accumulate, options.shard_teacher)
    theirs = task if ours is not task and teacher is not None else None
    made = not options.out.exists()
    try:
        report = run_experiment(ours, options.out, sizes, teacher, new_student, theirs, runtime,
                                options.checkpoint_every, options.report_to, recipe=options.recipe,
                                paper=options.paper, pretrained=pretrained,
                                trust_label_order=options.trust_label_order)
    except KdlabError:
        if made and not any(path.is_file() for path in options.out.rglob("*")):
            shutil.rmtree(options.out, ignore_errors=True)      # refused before anything was done
        raise
    if distributed.is_main():
        print(f"\n{table(report)}\nwritten: {options.out / 'report.json'}, report.txt, "
              f"{'pretrained/, ' if (options.out / 'pretrained').exists() else ''}"
              f"{'' if teacher else 'teacher/, '}student/")


def _export(options: argparse.Namespace) -> None:
    from .data.tasks import file_task
    from .models import load_classifier
    from .study.onnx_export import export, table

    model, tokenizer = load_classifier(options.model)
    regression = model.config.num_labels == 1
    names = None if regression else tuple(model.config.id2label.values())
    task = file_task(options.eval, options.eval, options.text, options.label, pair=options.pair, tokenizer=tokenizer,
                     max_tokens=LONGEST, regression=regression, label_names=names)
    print(table(export(model, task, options.out or options.model)))


def _teacher(options: argparse.Namespace) -> None:
    from .files import DATA, new_folder
    from .models import save
    from .recipes.teacher import make_teacher
    from .study.metrics import evaluate
    from .worlds.corpus import World

    world = World(options.world)
    out = options.out or DATA
    new_folder(out)
    pretrained, teacher, task = make_teacher(world, options.texts, options.pretraining_steps,
                                             options.fine_tuning_steps, options.architecture, options.seed)
    scores = evaluate(teacher, task["test"])
    prefix = f"{world.lexicon.path.stem}-{options.architecture.removesuffix('bert')}"
    save(pretrained, task.tokenizer, out / f"{prefix}bert")
    save(teacher, task.tokenizer, out / f"{prefix}teacher")
    print(f"{out / prefix}teacher: accuracy {scores['accuracy']:.4f}, KL(truth, teacher) {scores['kl_truth']:.4f} "
          f"nats on {len(task['test']):,} test texts; pretrained: {prefix}bert")


def _cache(options: argparse.Namespace) -> None:
    from .teacher.cache import TeacherCache

    cache = TeacherCache(options.folder)
    entries = cache.clear() if options.clear else cache.entries()
    for entry in entries:
        print(f"{entry.folder.name}  {entry.bytes / 2**20:9.1f} MiB  {entry.rows:>9,} rows  "
              f"used {datetime.fromtimestamp(entry.used):%Y-%m-%d %H:%M}  {entry.teacher}: {', '.join(entry.columns)}")
    total = sum(entry.bytes for entry in entries) / 2**20
    print(f"{'removed: ' if options.clear else ''}{len(entries)} entries, {total:.1f} MiB")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kdlab", description="Knowledge distillation of language models.")
    commands = parser.add_subparsers(required=True, metavar="command")
    shown = _Help

    one = commands.add_parser("distill", formatter_class=shown, help="teacher, student alone, student with teacher",
                              description="Compare students with and without a teacher on your own texts, and write "
                              "a report and the student. Stopped, the same command goes on where it was. Under "
                              "`accelerate launch -m kdlab distill ...` several processes share the work.")
    _add_reading(one)
    one.add_argument("--data", required=True, help="training file (.csv, .tsv, .jsonl, .parquet), a folder that holds "
                     "a data set, or owner/name of one on the Hub")
    one.add_argument("--eval", help="file to score on, never trained on; of a data set: a split (default validation)")
    one.add_argument("--subset", help="configuration of a data set, such as sst2 of GLUE")
    one.add_argument("--train-split", default="train", help="split of a data set to train on")
    one.add_argument("--regression", action="store_true", help="the labels are numbers to be met, as in STS-B")
    one.add_argument("--out", required=True, type=Path, help="folder for the report and the models")
    one.add_argument("--recipe", default="soft-targets", choices=RECIPES, help="how the student learns: soft targets, "
                     "or one of the papers from end to end")
    one.add_argument("--paper", action="store_true", help="the paper's settings in place of the miniature's: its "
                     "student, stages, steps and rates, which are for days on many GPUs; sizes given here go before")
    one.add_argument("--pretrained", help="the pretrained teacher with its language head, which DistilBERT and "
                     "MobileBERT need beside --teacher; alone, it is fine-tuned into the teacher")
    one.add_argument("--trust-label-order", action="store_true", help="go on where the teacher's answers fit the "
                     "labels better in another order")
    one.add_argument("--teacher", help="a fine-tuned classifier: a folder, or owner/name on the Hub; without it a "
                     "teacher is trained from scratch, for all recipes but soft targets from a masked language "
                     "model of the training texts")
    one.add_argument("--student", default="new", help="new: a small BERT of the sizes below; layer-drop: "
                     "student-layers of the teacher's layers; or a checkpoint to start from: a folder, or "
                     "owner/name on the Hub")
    one.add_argument("--vocabulary", type=int, default=8_000, help="tokens of the tokenizer that is trained where "
                     "there is no teacher yet")
    one.add_argument("--max-tokens", type=int, help="longer texts are cut "
                     "(default: at what the teacher reads, or at 64 without one)")
    for size in fields(Sizes):
        meaning = size.metadata["help"]
        if size.default is None and "default" not in meaning:
            meaning += " (default: the recipe's)"
        one.add_argument(f"--{size.name.replace('_', '-')}", type=size.metadata["type"], help=meaning,
                         **({} if size.default is None else {"default": size.default}))
    one.add_argument("--precision", default="no", choices=("no", "bf16", "auto"), help="auto: bfloat16 where it is "
                     "faster here")
    one.add_argument("--accumulate", type=int, default=1, help="slices of a batch that a process computes in turn")
    one.add_argument("--checkpoint-every", type=int, default=200, help="steps between two savings of progress")
    one.add_argument("--shard-teacher", action="store_true", help="each process holds a part of the teacher (FSDP)")
    one.add_argument("--report-to", choices=("tensorboard", "wandb"), help="tell every step's losses to")
    one.set_defaults(command=_distill)

    four = commands.add_parser("export", formatter_class=shown, help="a student as ONNX, and in eight bits",
                               description="Write model.onnx and model-int8.onnx, and compare size, latency and score "
                               "with the model's. Needs onnx, onnxscript and onnxruntime.")
    four.add_argument("model", help="the student's folder, or owner/name on the Hub")
    _add_reading(four)
    four.add_argument("--eval", required=True, type=Path, help="file to score on")
    four.add_argument("--out", type=Path, help="folder to write to (default: the model's)")
    four.set_defaults(command=_export)

    two = commands.add_parser("teacher", formatter_class=shown, help="make the teacher of a built-in world",
                              description="Pretrain and fine-tune the teacher of a built-in world, as the shipped "
                              "ones were made (about 20 minutes on one core): two folders, "
                              "WORLD-bert and WORLD-teacher, or with ib-bert WORLD-ib-bert and WORLD-ib-teacher.")
    two.add_argument("world", help="restaurant, clinic, or the path of a lexicon file")
    two.add_argument("--out", type=Path, help="folder to save the two in (default: the kit's data/)")
    two.add_argument("--architecture", default="bert", help="bert, or ib-bert, the teacher of MobileBERT")
    two.add_argument("--texts", type=int, default=150_000, help="texts of each kind: unlabelled, labelled")
    two.add_argument("--pretraining-steps", type=int, default=6_000, help="0 trains from scratch")
    two.add_argument("--fine-tuning-steps", type=int, default=2_500, help="steps of 64 labelled texts")
    two.add_argument("--seed", type=int, default=0, help="of texts, weights and batches")
    two.set_defaults(command=_teacher)

    three = commands.add_parser("cache", help="list or clear a folder of teacher outputs",
                                description="List the entries of a teacher cache, the last used first, or remove them. "
                                "`distill` keeps its cache in OUT/cache.")
    three.add_argument("folder", type=Path, help="what was given as cache=")
    three.add_argument("--clear", action="store_true", help="remove every entry; other files are left alone")
    three.set_defaults(command=_cache)
    return parser


def _add_reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--text", default="text", help="name of the column of texts")
    parser.add_argument("--pair", help="name of the column of second texts, for tasks on pairs")
    parser.add_argument("--label", default="label", help="name of the column of labels")

