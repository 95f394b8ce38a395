"""kdlab: knowledge distillation of language models, taught by doing it.

Rooms, each importing only from those above it:

    losses      one function per equation
    corpus      the built-in worlds and their exact posterior (their words: `lexicon`)
    tasks       texts and labels, encoded (a user's files: `table`)
    models      teachers and students
    trace       one forward pass, captured
    batches     which rows go together, and how they are padded (`masking` hides words in them)
    objectives  loss terms and their weighted sum
    measure     accuracy, fidelity, calibration, size, FLOPs, latency
    cache       teacher logits on disk
    distill     the loop (with `preflight`, `checkpoint`, `interrupt`)
    recipes     one file per paper
    plots       draw(axes, state)
    widgets     controls around plots
    check       exercise checks with hints

`import kdlab` loads none of them, so it is light; import from the room itself:
`from kdlab.distill import Stage, distill`.
"""

__version__ = "0.1.0"
