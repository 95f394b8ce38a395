"""The command line: `python -m kdlab distill ...`, `teacher ...` and `cache ...`."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from datetime import datetime
from pathlib import Path

from .errors import KdlabError
from .sizes import Sizes


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 2 for input that cannot be right, 130 interrupted."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except KdlabError as error:
        print(f"kdlab: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("kdlab: interrupted; nothing was written but finished parts", file=sys.stderr)
        return 130
    return 0


def _distill(options: argparse.Namespace) -> None:
    from .experiment import run_experiment, table
    from .tasks import file_task

    task = file_task(options.data, options.eval, options.text, options.label, options.vocabulary,
                     options.max_tokens)
    sizes = Sizes(**{f.name: getattr(options, f.name) for f in fields(Sizes)})
    report = run_experiment(task, options.out, sizes)
    print(f"\n{table(report)}\nwritten: {options.out / 'report.json'}, report.txt, teacher/, student/")


def _teacher(options: argparse.Namespace) -> None:
    from .corpus import World
    from .files import new_folder
    from .lexicon import DATA
    from .measure import evaluate
    from .models import save
    from .recipes.teacher import make_teacher

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
    from .cache import TeacherCache

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
    shown = argparse.ArgumentDefaultsHelpFormatter

    one = commands.add_parser("distill", formatter_class=shown, help="teacher, student alone, student with teacher",
                              description="Train a tokenizer, a teacher and students on your own texts, compare "
                              "them, and write a report. Files: .csv, .tsv, .jsonl or .parquet.")
    one.add_argument("--data", required=True, type=Path, help="training file")
    one.add_argument("--eval", required=True, type=Path, help="file to score on; never trained on")
    one.add_argument("--text", default="text", help="name of the column of texts")
    one.add_argument("--label", default="label", help="name of the column of labels")
    one.add_argument("--out", required=True, type=Path, help="folder for the report and the models")
    one.add_argument("--vocabulary", type=int, default=8_000, help="tokens of the WordPiece tokenizer")
    one.add_argument("--max-tokens", type=int, default=64, help="longer texts are cut")
    for size in fields(Sizes):
        one.add_argument(f"--{size.name.replace('_', '-')}", type=type(size.default), default=size.default,
                         help=size.metadata["help"])
    one.set_defaults(command=_distill)

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


if __name__ == "__main__":
    sys.exit(main())
