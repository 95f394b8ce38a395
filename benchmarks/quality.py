"""How good are the recipes' students, at equal steps, beside the same students without a teacher?

Each recipe's student also learns from labels alone ("no teacher"), from masked words and then labels ("fine-tuning")
and from soft targets alone; all with the same number of steps, the same texts with and without labels, and learning
rates tuned on a validation split, with as many tries each. In the built-in world, on 10,000 test texts; or on SST-2
(`--ground sst2`), where everything is from scratch, the teachers too: they are trained first, once, into runs/.

    python benchmarks/quality.py [--ground sst2] [--seeds N] [--quick] [--json FILE]

Results are kept in benchmarks/results/ as they come; the same command goes on where it stopped. `--quick` takes a
fifth of the steps and two seeds, for a first look, and begins anew each time.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from arms import GROUNDS, QUICK_STEPS, ground, job, make_sst2_teachers, scores, tuned
from jobs import key, mean_and_se, run_all, store_of

from kdlab.study import metrics

STEPS = {"restaurant": (300, 300), "sst2": (200, 200)}      # of 64 texts: general stage, task stage
# The variant of each recipe. MobileBERT's was chosen on validation, beside TRIED, whose rates are tuned too: in so few
# steps its blocks learn better all together than one after another (.554 against .503).
RECIPES = {"distilbert": "full+", "tinybert": "full", "mobilebert": "joint"}
TRIED = {"mobilebert": "progressive"}
BASELINES = ("no teacher", "fine-tuning", "soft targets")
SCORES = ("fidelity", "kl_truth", "calibration_error")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ground", choices=GROUNDS, default=GROUNDS[0])
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    seeds = range(options.seeds or (2 if options.quick else 5))
    steps = QUICK_STEPS if options.quick else STEPS[options.ground]
    where = {} if options.ground == GROUNDS[0] else {"ground": options.ground}
    if where:
        make_sst2_teachers()
    store = store_of("-".join(["quality", *where.values()]), options.quick)

    arms = [(recipe, RECIPES[recipe], recipe) for recipe in options.recipes]
    arms += [(baseline, recipe, recipe) for recipe in options.recipes for baseline in BASELINES]
    tried = [(recipe, TRIED[recipe]) for recipe in options.recipes if recipe in TRIED and not where]
    rates = tuned([*((m, v) for m, v, _ in arms), *tried], steps, store, **where)
    jobs = {(m, v, seed): job(m, v, seed, steps, rates[m, v], **where) for seed in seeds for m, v, _ in arms}
    results = run_all(scores, list(jobs.values()), store)

    here = ground({"seed": 0, **where})
    top = metrics.evaluate(here.teacher, here.task["test"])["accuracy"]
    size = metrics.parameters(here.teacher)
    figures = {"teacher_accuracy": top, "seeds": len(seeds)}
    print(f"\nteacher: accuracy {top:.4f}, {size:,} parameters")
    shown = [score for score in SCORES if score in next(iter(results.values()))]    # the truth is not always known
    print(f"{'student':<12}{'method':<14}{'accuracy':>18}{'retention':>11}{'parameters':>12}"
          + "".join(f"{score:>19}" for score in shown) + "  over no teacher")
    for method, variant, recipe in arms:
        rows = [results[key(jobs[method, variant, seed])] for seed in seeds]
        base = [results[key(jobs["no teacher", recipe, seed])]["accuracy"] for seed in seeds]
        mean, se = mean_and_se([row["accuracy"] for row in rows])
        name = recipe if method == recipe else f"{method.replace(' ', '_').replace('-', '_')}_{recipe}"
        figures |= {f"{name}_accuracy": mean, f"{name}_se": se, f"{name}_retention": mean / top,
                    f"{name}_params_ratio": rows[0]["parameters"] / size}
        figures |= {f"{name}_{score}": statistics.fmean(row[score] for row in rows) for score in shown}
        what = "recipe" if method == recipe else method
        line = f"{recipe:<12}{what:<14}{mean:>10.4f} ±{se:>6.4f}{mean / top:>11.1%}" \
               f"{rows[0]['parameters']:>12,}" + "".join(f"{figures[f'{name}_{score}']:>19.4f}" for score in shown)
        if method != "no teacher":
            gain, gain_se = mean_and_se([a["accuracy"] - b for a, b in zip(rows, base, strict=True)])
            figures |= {f"{name}_gain": gain, f"{name}_gain_se": gain_se}
            line += f"  {100 * gain:+.1f} ± {100 * gain_se:.1f} points"
        print(line)
    print(f"\n{len(seeds)} seeds, {steps[0]} + {steps[1]} steps of 64; ± standard error")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
