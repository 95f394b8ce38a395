"""What came of a comparison: scores with their spread, differences with their intervals, and what they are worth.

Differences are taken seed by seed: a seed's students share initial weights and order of texts, and the luck that is in
both drops out. The interval is Student's t, at 95% for all methods of one's own together against one baseline
(Bonferroni): who tries twenty methods finds one that looks better at 95% each.
"""

from __future__ import annotations

import html
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from ..plots.figure import Static
from ..plots.forest import Gap, forest
from .metrics import headline

NO_TEACHER, SOFT_TARGETS = "no teacher", "soft targets"
BASELINES = (NO_TEACHER, SOFT_TARGETS)
CONFIDENCE = 0.95
MANY = 500          # seeds that nobody will run
COLUMNS = {"accuracy": "accuracy", "pearson": "pearson", "retention": "retention", "fidelity": "fidelity",
           "kl_truth": "KL to truth", "calibration_error": "calib. error"}


@dataclass(frozen=True)
class Difference:
    """A method's score minus a baseline's, seed by seed: mean and interval, which is without end for a single seed."""

    values: tuple[float, ...]
    level: float

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    def half_width(self, seeds: int | None = None) -> float:
        """Of the interval from these seeds, or from another number of them that spread alike."""
        from scipy.stats import t

        if len(self.values) < 2:
            return float("inf")
        seeds = seeds or len(self.values)
        return float(t.ppf((1 + self.level) / 2, seeds - 1)) * statistics.stdev(self.values) / seeds**0.5

    @property
    def low(self) -> float:
        return self.mean - self.half_width()

    @property
    def high(self) -> float:
        return self.mean + self.half_width()

    def seeds_to_tell(self) -> int | None:
        """How many seeds would tell a difference of this size from none; None: more than `MANY`."""
        return next((n for n in range(2, MANY) if self.half_width(n) < abs(self.mean)), None)


@dataclass(frozen=True)
class Comparison:
    """The runs of all methods; a notebook shows the table and what it says, `picture()` draws the differences."""

    task: str
    split: str
    rows: int
    budget: int
    methods: tuple[str, ...]
    runs: Sequence[dict]
    teacher: dict[str, float]
    costs: dict[str, dict[str, float]]

    @property
    def score(self) -> str:
        """The score that the task is judged by."""
        return headline(self.teacher)

    @property
    def own(self) -> tuple[str, ...]:
        return tuple(name for name in self.methods if name not in BASELINES)

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(run["seed"] for run in self.runs))

    def of(self, method: str, score: str | None = None) -> tuple[float, ...]:
        """A method's scores, one a seed, in the order of `seeds`; "seconds" is one, too."""
        score = score or self.score
        runs = [run for run in self.runs if run["method"] == method]
        if score == "retention":
            return tuple(run["scores"][self.score] / self.teacher[self.score] for run in runs)
        return tuple(run["seconds"] if score == "seconds" else run["scores"][score] for run in runs)

    def difference(self, method: str, baseline: str, score: str | None = None) -> Difference:
        pairs = zip(self.of(method, score), self.of(baseline, score), strict=True)
        return Difference(tuple(ours - theirs for ours, theirs in pairs), 1 - (1 - CONFIDENCE) / max(1, len(self.own)))

    def verdicts(self) -> list[str]:
        """In words, for each method of one's own against each baseline; and what else the numbers do not say."""
        said = []
        if len(self.seeds) < 3:
            said.append(f"With {len(self.seeds)} seed{'s' * (len(self.seeds) > 1)} there is no spread to speak of: "
                        "take three or more, better eight.")
        elif self.own:
            said += [self._verdict(method, baseline) for method in self.own for baseline in BASELINES]
        texts = {method: next(run["texts"] for run in self.runs if run["method"] == method) for method in self.methods}
        if len(set(texts.values())) > 1:
            read = "; ".join(f"'{method}' {count:,}" for method, count in texts.items())
            said.append(f"They did not learn from the same texts: {read}.")
        if len(self.own) > 1:
            said.append(f"The intervals against a baseline hold for all {len(self.own)} methods together.")
        if self.score == "accuracy":
            error = (self.teacher["accuracy"] * (1 - self.teacher["accuracy"]) / self.rows) ** 0.5
            said.append(f"All are scored on the same {self.rows:,} texts, which tell an accuracy to ±{100 * error:.1f} "
                        "points (standard error); the intervals are about other seeds, not about other texts.")
        return said

    def _verdict(self, method: str, baseline: str) -> str:
        one = self.difference(method, baseline)
        factor, unit = (100, " points") if self.score == "accuracy" else (1, "")
        mean, low, high = (f"{factor * x:+.1f}" if factor > 1 else f"{x:+.3f}" for x in (one.mean, one.low, one.high))
        told = f"{mean}{unit} of {self.score}, interval {low} to {high}, {len(one.values)} seeds"
        if one.low > 0 or one.high < 0:
            return f"'{method}' is {'better' if one.low > 0 else 'worse'} than '{baseline}': {told}."
        seeds = one.seeds_to_tell()
        more = f"; if the difference is what it looks like, about {seeds} seeds would tell" if seeds else ""
        return f"'{method}' and '{baseline}' are within the noise of each other: {told}{more}."

    def table(self) -> list[dict[str, str]]:
        """A row a method, the teacher first: column -> what stands there, mean and standard deviation over seeds."""
        scores = [key for key in COLUMNS if key == "retention" or key in self.runs[0]["scores"]]
        teacher = {"method": "teacher"} | {COLUMNS[key]: f"{self.teacher[key]:.3f}" if key in self.teacher else "1.000"
                                           if key == "retention" else "" for key in scores}
        rows = [teacher]
        for method in self.methods:
            row = {"method": method} | {COLUMNS[key]: _spread(self.of(method, key)) for key in scores}
            for baseline in BASELINES:
                one = self.difference(method, baseline)
                own = method in self.own and len(one.values) > 1
                row[f"− {baseline}"] = f"{one.mean:+.3f} ({one.low:+.3f} to {one.high:+.3f})" if own else ""
            run = next(run for run in self.runs if run["method"] == method)
            row |= {"texts": f"{run['texts']:,}", "seconds": f"{statistics.fmean(self.of(method, 'seconds')):.1f}"}
            rows.append(row)
        return [{column: row.get(column, "") for column in rows[-1]} for row in rows]

    def notes(self) -> list[str]:
        sizes = "; ".join(f"{who} {cost['parameters']:,} parameters, {cost['MFLOPs']:.1f} MFLOPs and "
                          f"{cost['latency_ms']:.1f} ms a text" for who, cost in self.costs.items())
        return [*self.verdicts(), f"{self.task}, {self.split} split; {self.budget} steps a run; {sizes}."]

    def picture(self) -> Static:
        """The differences of one's own methods from the baselines, seed by seed, with their intervals."""
        gaps = [Gap(f"{method} − {baseline}", one.values, one.mean, one.low, one.high)
                for method in self.own for baseline in BASELINES for one in [self.difference(method, baseline)]]
        return forest(gaps, self.score)

    def __str__(self) -> str:
        rows = self.table()
        wide = {column: max(len(column), *(len(row[column]) for row in rows)) for column in rows[0]}
        lines = ["  ".join(f"{column:<{wide[column]}}" for column in rows[0])]
        lines += ["  ".join(f"{row[column]:<{wide[column]}}" for column in row) for row in rows]
        return "\n".join([*(line.rstrip() for line in lines), "", *self.notes()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = self.table()
        head = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in rows[0])
        body = "".join("<tr>" + "".join(
            f'<th scope="row">{html.escape(value)}</th>' if column == "method" else f"<td>{html.escape(value)}</td>"
            for column, value in row.items()) + "</tr>" for row in rows)
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes())
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><ul>{notes}</ul>"


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.3f}" + (f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else "")
