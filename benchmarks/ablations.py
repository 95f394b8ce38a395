"""The papers' ablations in miniature: what happens to each recipe when one of its parts is taken away?

Each row is trained five times (`--seeds`); its difference from the full recipe is taken seed by seed. The full recipe
of each method is tuned once, over four pairs of learning rates and on a validation split with a seed of its own; the
rates found hold for all its rows. Scores are accuracies on 10,000 test texts, in points.

    python benchmarks/ablations.py [--seeds N] [--quick] [--json FILE]

Results are kept in benchmarks/results/ablations.jsonl as they come; the same command goes on where it stopped. Expect
an hour on two cores; it says how much is left. `--quick` takes fewer steps and two seeds, for a first look, and
begins anew each time.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import dataclass
from pathlib import Path

from arms import QUICK_STEPS, job, scores, tuned
from jobs import key, mean_and_se, run_all, store_of

STEPS = 200, 200        # of 64 texts: general stage, task stage
FULL = {"distilbert": "full", "tinybert": "full", "mobilebert": "progressive"}


@dataclass(frozen=True)
class Row:
    """One line of a paper's ablation. `paper`: how its score changes, in points; None where only its fall is known, or
    where the paper has no such row and we add one."""

    method: str
    variant: str
    paper: float | None
    added: bool = False


# Sanh et al. 2019, Table 4 (GLUE macro score); Jiao et al. 2020, Tables 2 to 4 (mean of four GLUE tasks). For
# MobileBERT only the order of the strategies and the role of feature maps could be checked: no figure is printed.
ROWS = (
    Row("distilbert", "without soft", -2.96), Row("distilbert", "without cosine", -1.46),
    Row("distilbert", "without masked", -0.31), Row("distilbert", "random", -3.69),
    Row("distilbert", "without teacher", None, added=True),
    Row("tinybert", "without general", -3.1), Row("tinybert", "without task", -7.1),
    Row("tinybert", "without augmentation", -7.2), Row("tinybert", "without embedding", -1.5),
    Row("tinybert", "without prediction", -2.1), Row("tinybert", "without transformer", -19.3),
    Row("tinybert", "without attention", -4.6), Row("tinybert", "without hidden", -2.7),
    Row("tinybert", "top", -4.7), Row("tinybert", "bottom", -4.3),
    Row("mobilebert", "joint", None), Row("mobilebert", "auxiliary", None),
    Row("mobilebert", "without feature_maps", None), Row("mobilebert", "bare", None, added=True),
    Row("mobilebert", "distilled", None, added=True), Row("mobilebert", "without attention", None, added=True),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--methods", nargs="+", default=list(FULL), choices=list(FULL))
    parser.add_argument("--json", type=Path, help="write the rows here")
    options = parser.parse_args()
    seeds = range(options.seeds or (2 if options.quick else 5))
    steps, store = QUICK_STEPS if options.quick else STEPS, store_of("ablations", options.quick)

    rows = [row for row in ROWS if row.method in options.methods]
    rates = tuned([(method, FULL[method]) for method in options.methods], steps, store)
    rates = {method: rates[method, FULL[method]] for method in options.methods}
    variants = {(m, FULL[m]) for m in options.methods} | {(row.method, row.variant) for row in rows}
    jobs = {(m, v, seed): job(m, v, seed, steps, rates[m]) for seed in seeds for m, v in sorted(variants)}
    results = run_all(scores, list(jobs.values()), store)

    def accuracies(method: str, variant: str) -> list[float]:
        return [100 * results[key(jobs[method, variant, seed])]["accuracy"] for seed in seeds]

    table = []
    print(f"\n{'row':<34}{'accuracy':>16}{'change':>16}{'paper':>8}  sign agrees  beyond 2 s.e.")
    for row in rows:
        full, ours = accuracies(row.method, FULL[row.method]), accuracies(row.method, row.variant)
        if row is next(r for r in rows if r.method == row.method):
            mean, se = mean_and_se(full)
            print(f"{row.method + ' ' + FULL[row.method]:<34}{mean:>9.2f} ±{se:>5.2f}   rates "
                  f"{rates[row.method][0]:g}, {rates[row.method][1]:g}")
        changes = [a - b for a, b in zip(ours, full, strict=True)]
        mean, se = mean_and_se(changes)
        agrees, beyond = bool(mean < 0), bool(abs(mean) > 2 * se)
        table.append({"method": row.method, "row": row.variant, "accuracy": statistics.fmean(ours), "change": mean,
                      "se": se, "paper": row.paper, "sign_agrees": None if row.added else agrees,
                      "beyond_two_se": beyond})
        paper = "added" if row.added else "falls" if row.paper is None else f"{row.paper:+.1f}"
        print(f"  {row.variant:<32}{mean_and_se(ours)[0]:>9.2f} ±{mean_and_se(ours)[1]:>5.2f}{mean:>+9.2f} ±{se:>5.2f}"
              f"{paper:>8}  {'' if row.added else 'yes' if agrees else 'no':<11}  {'yes' if beyond else 'no'}")
    print(f"\n{len(seeds)} seeds; accuracy in per cent and its change in points, ± standard error; general stage "
          f"{steps[0]} steps, task stage {steps[1]}; the paper's column is in its own score's points")
    if options.json:
        summary = {"rows": table, "sign_agrees": sum(r["sign_agrees"] is True for r in table),
                   "beyond_two_se": sum(r["beyond_two_se"] for r in table)}
        options.json.write_text(json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    main()
