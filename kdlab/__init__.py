"""kdlab: knowledge distillation of language models, taught by doing it.

Rooms, each importing only from those above it:

    errors         what a user can mend, in one sentence
    files          writing whole or not at all
    code           what code says, so that finished work knows whether it still holds
    losses         one function per equation
    lexicon        the words of a world, read and checked
    grammar        what a review means: the reader and the exact posterior
    corpus         the built-in worlds: reviews drawn, with their truth
    table          a user's file or data set, read and checked
    tasks          texts and labels, encoded
    layer_map      which teacher layer each student layer learns from
    bottleneck     MobileBERT as published, where transformers cannot build it
    models         teachers and students
    architectures  the papers' models and their figures
    layer_drop     a student that starts as some of its teacher's layers
    sparse         a distribution over a vocabulary by a few of its tokens
    trace          one forward pass, captured
    shortcut       a model without what nobody reads
    batches        which rows go together, and how they are padded
    masking        words hidden in them, to be guessed
    objectives     loss terms and their weighted sum
    intermediate   terms that read hidden states and attention
    augment        variants of texts by a language model
    measure        accuracy, fidelity, calibration, size, FLOPs, latency
    processes      several processes at work on one run
    precision      bfloat16 where it is faster
    memory         what a run will take at most
    cache_fill     what is kept of a teacher, computed and written
    cache          teacher outputs on disk
    run            what a run is asked to do, and what came of it
    reading        how batches meet the teacher: from its cache, or live
    preflight      what stops a run that cannot be right
    checkpoint     a run's progress on disk
    interrupt      the stop button
    distill        the loop
    recipes        one file per paper
    sizes          what an experiment builds
    card           the model card of a student
    experiment     teacher, student alone, student with teacher: one honest comparison
    export         a student as ONNX, and in eight bits
    plots          draw(axes, state)
    widgets        controls around plots
    comparison     what came of a comparison, and what its differences are worth
    compare        methods against each other and against the baselines, over seeds
    sweep          settings searched for on the validation split
    check          exercise checks with hints
    environment    the setup check

`import kdlab` loads none of them, so it is light; import from the room itself:
`from kdlab.distill import Stage, distill`.
"""

import os

# Torch's threads on Linux wait for one another by spinning, for a millisecond or so. Beside a second such process (two
# open lessons) one that has lost its core keeps the rest spinning: what took 29 seconds with this shorter spin was not
# done after 60 without it. On an idle machine it costs 6 to 9%. It has to be said before torch is loaded.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "4000")

__version__ = "0.1.0"
