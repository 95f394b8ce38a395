"""kdlab: knowledge distillation of language models, taught by doing it.

The house, in the order of its arrows: each entry imports only from those above it.

    errors     what a user can mend, in one sentence
    files      where the kit's own files lie; writing whole or not at all
    losses     one pure function per equation
    worlds     lexicon, grammar, corpus: text whose truth is known
    models     build, load, architectures, layer-drop, layer maps, one traced pass
    data       tasks, tables, batches, masking, augmentation
    terms      a loss with what it reads, and the weighted sum of several
    engine     what the loop leans on: stages and runs, preflight, callbacks, distributed, precision, the fast path
    teacher    where the teacher's outputs come from: live, or the cache
    loop       THE loop
    recipes    one file a paper
    plots      draw(axes, state)
    study      metrics, comparison, report, search, experiment, export
    widgets    controls around plots
    lessons    exercise checks with hints, the set-up check
    cli        `python -m kdlab`, and the console script `kdlab`
"""

import os

# Torch's threads on Linux wait for one another by spinning, for a millisecond or so. Beside a second such process (two
# open lessons) one that has lost its core keeps the rest spinning: what took 29 seconds with this shorter spin was not
# done after 60 without it. On an idle machine it costs 6 to 9%. It has to be said before torch is loaded.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "4000")

__version__ = "0.2.0"
