"""Get the SST-2 sentences from the Hub into a folder, as train.tsv and dev.tsv with the columns label and sentence.

    python benchmarks/fetch_sst2.py FOLDER, then KDLAB_SST2=FOLDER for the benchmarks and tests that read them.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main(folder: Path) -> None:
    from datasets import load_dataset

    folder.mkdir(parents=True, exist_ok=True)
    for split, name in (("train", "train"), ("validation", "dev")):
        data = load_dataset("stanfordnlp/sst2", split=split)
        lines = [f"{row['label']}\t{row['sentence'].strip()}" for row in data]
        (folder / f"{name}.tsv").write_text("\n".join(["label\tsentence", *lines]) + "\n", encoding="utf-8")
        print(f"{folder / name}.tsv: {len(lines):,} rows")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
