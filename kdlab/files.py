"""Writing so that a reader finds the old thing or the new one, never half of either."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import KdlabError


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """A fresh folder beside `folder` to write into; it takes the name `folder` if the block succeeds."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield unfinished
        unfinished.chmod(0o755)     # mkdtemp makes it private
        old = unfinished.with_name(unfinished.name + ".old")
        while unfinished.exists():
            try:
                os.replace(unfinished, folder)
            except OSError as error:    # a folder is, or was a moment ago, in the way: perhaps another process's
                if not (error.errno in (errno.ENOTEMPTY, errno.EEXIST) or folder.is_dir()):
                    raise
                with suppress(FileNotFoundError):
                    os.replace(folder, old)
                shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def new_folder(folder: Path) -> None:
    """Make the folder unless it is there. Raises `KdlabError` where it cannot be, before any long work."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KdlabError(f"{folder}: this folder cannot be made ({error.strerror}); choose another place") from None


def write_text(path: Path, text: str) -> None:
    """Write a text file whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_text(text, encoding="utf-8")
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
