"""How good are the recipes' students, at equal steps, beside the same students without a teacher?

Each recipe's student also learns from labels alone ("no teacher"), from masked words and then labels ("fine-tuning")
and from soft targets alone; all with the same number of steps, the same texts with and without labels, and learning
rates tuned on a validation split, with as many tries each. Five seeds; scores on 10,000 test texts.

    python benchmarks/quality.py [--seeds N] [--json FILE]

Results are kept in benchmarks/results/quality.jsonl as they come; the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from arms import job, load_classifier, scores, test_split, tuned
from jobs import RESULTS, key, mean_and_se, run_all

from kdlab import measure

STEPS = 300, 300        # of 64 texts: general stage, task stage
# The variant of each recipe. MobileBERT's was chosen on validation, beside TRIED, whose rates are tuned too: in so few
# steps its blocks learn better all together than one after another (.554 against .503).
RECIPES = {"distilbert": "full+", "tinybert": "full", "mobilebert": "joint"}
TRIED = {"mobilebert": "progressive"}
BASELINES = ("no teacher", "fine-tuning", "soft targets")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    store, seeds = RESULTS / "quality.jsonl", range(options.seeds)

    arms = [(recipe, RECIPES[recipe], recipe) for recipe in options.recipes]
    arms += [(baseline, recipe, recipe) for recipe in options.recipes for baseline in BASELINES]
    tried = [(recipe, TRIED[recipe]) for recipe in options.recipes if recipe in TRIED]
    rates = tuned([*((m, v) for m, v, _ in arms), *tried], STEPS, store)
    jobs = {(m, v, seed): job(m, v, seed, STEPS, rates[m, v]) for seed in seeds for m, v, _ in arms}
    results = run_all(scores, list(jobs.values()), store)

    teacher = load_classifier("restaurant-teacher")[0]
    top = measure.evaluate(teacher, test_split())["accuracy"]
    size = measure.parameters(teacher)
    figures = {"teacher_accuracy": top, "seeds": options.seeds}
    print(f"\nteacher: accuracy {top:.4f}, {size:,} parameters")
    print(f"{'student':<12}{'method':<14}{'accuracy':>18}{'retention':>11}{'fidelity':>10}{'KL(truth,q)':>13}"
          f"{'calib. error':>14}{'parameters':>12}  over no teacher")
    for method, variant, recipe in arms:
        rows = [results[key(jobs[method, variant, seed])] for seed in seeds]
        base = [results[key(jobs["no teacher", recipe, seed])]["accuracy"] for seed in seeds]
        mean, se = mean_and_se([row["accuracy"] for row in rows])
        name = recipe if method == recipe else f"{method.replace(' ', '_').replace('-', '_')}_{recipe}"
        figures |= {f"{name}_accuracy": mean, f"{name}_se": se, f"{name}_retention": mean / top,
                    f"{name}_params_ratio": rows[0]["parameters"] / size}
        line = f"{recipe:<12}{'recipe' if method == recipe else method:<14}{mean:>10.4f} ±{se:>6.4f}{mean / top:>11.1%}"
        for score in ("fidelity", "kl_truth", "calibration_error"):
            figures[f"{name}_{score}"] = statistics.fmean(row[score] for row in rows)
        line += f"{figures[f'{name}_fidelity']:>10.3f}{figures[f'{name}_kl_truth']:>13.4f}" \
                f"{figures[f'{name}_calibration_error']:>14.4f}{rows[0]['parameters']:>12,}"
        if method != "no teacher":
            gain, gain_se = mean_and_se([a["accuracy"] - b for a, b in zip(rows, base, strict=True)])
            figures |= {f"{name}_gain": gain, f"{name}_gain_se": gain_se}
            line += f"  {100 * gain:+.1f} points = {gain / gain_se:.1f} s.e."
        print(line)
    print(f"\n{options.seeds} seeds, {STEPS[0]} + {STEPS[1]} steps of 64; ± standard error")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
