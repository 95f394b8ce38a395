"""Layer maps: which teacher layer each student layer learns from.

Layers are numbered as in the papers: 1 is the first, 0 stands for the embeddings' output. A layer map is a
tuple of pairs (student layer, teacher layer); the presets below make the usual ones, and any other tuple of
pairs is as good. Presets exist for any two depths: where the teacher's is no multiple of the student's, the
nearest layer is taken.
"""

from __future__ import annotations

from ..errors import KdlabError

LayerMap = tuple[tuple[int, int], ...]


def uniform(student_layers: int, teacher_layers: int) -> LayerMap:
    """Every so-manieth layer up to the last: g(m) = m N / M (TinyBERT, section 4.2: 3, 6, 9, 12 for 4 of 12)."""
    _check(student_layers, teacher_layers)
    return tuple((m, _nearest(m * teacher_layers / student_layers)) for m in range(1, student_layers + 1))


def top(student_layers: int, teacher_layers: int) -> LayerMap:
    """The teacher's last layers: g(m) = m + N - M (TinyBERT, Table 4, "top")."""
    _check(student_layers, teacher_layers)
    return tuple((m, m + teacher_layers - student_layers) for m in range(1, student_layers + 1))


def bottom(student_layers: int, teacher_layers: int) -> LayerMap:
    """The teacher's first layers: g(m) = m (TinyBERT, Table 4, "bottom")."""
    _check(student_layers, teacher_layers)
    return tuple((m, m) for m in range(1, student_layers + 1))


def spread(student_layers: int, teacher_layers: int) -> LayerMap:
    """Evenly from the first layer to the last. For 6 of 12 these are 1, 3, 5, 8, 10 and 12, the layers that
    DistilBERT's released code starts from, [0, 2, 4, 7, 9, 11] when counted from 0."""
    _check(student_layers, teacher_layers)
    if student_layers == 1:
        return ((1, 1),)
    step = (teacher_layers - 1) / (student_layers - 1)
    return tuple((m, 1 + _nearest((m - 1) * step)) for m in range(1, student_layers + 1))


def skip(student_layers: int, teacher_layers: int) -> LayerMap:
    """Patient-KD's PKD-Skip: every so-manieth layer, the last one left to the logits (Sun et al. 2019: 2, 4, 6, 8 and
    10 for a 6-layer student of 12)."""
    return uniform(student_layers, teacher_layers)[:-1]


def last(student_layers: int, teacher_layers: int) -> LayerMap:
    """Only the last layer of each (MiniLM)."""
    _check(student_layers, teacher_layers)
    return ((student_layers, teacher_layers),)


def _check(student_layers: int, teacher_layers: int) -> None:
    if not 1 <= student_layers <= teacher_layers:
        raise KdlabError(f"a student of {student_layers} layers cannot take one each from a teacher of "
                         f"{teacher_layers}; give the student at least 1 and at most as many as the teacher")


def _nearest(x: float) -> int:
    return int(x + 0.5)     # round() would take 2.5 to 2 and 3.5 to 4
