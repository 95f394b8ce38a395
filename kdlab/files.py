"""Where the kit's own files lie, and writing so that a reader finds the old file or the new one, never half of
either."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from safetensors import SafetensorError

from .errors import KdlabError

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_HERE = Path(__file__).resolve().parent
DATA = next((folder for folder in (_HERE.parent / "data", _HERE / "shipped") if (folder / "restaurant.csv").is_file()),
            _HERE.parent / "data")      # of a clone, or inside an installed wheel


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """A fresh folder beside `folder` to write into; it takes the name `folder` if the block succeeds.

    Raises `KdlabError` where the disk does not take it.
    """
    unfinished, olds = _unfinished(folder), []
    try:
        unfinished.mkdir()
        yield unfinished
        while unfinished.exists():
            try:
                os.replace(unfinished, folder)
            except OSError as error:    # a folder is, or was a moment ago, in the way: perhaps another process's
                if not (error.errno in (errno.ENOTEMPTY, errno.EEXIST) or folder.is_dir()):
                    raise
                olds.append(_unfinished(folder))
                with suppress(FileNotFoundError):
                    os.replace(folder, olds[-1])
    except (OSError, SafetensorError) as error:
        raise cannot_write(folder, error) from None
    finally:
        for left in (unfinished, *olds):
            shutil.rmtree(left, ignore_errors=True)


@contextmanager
def replaced_file(path: Path) -> Iterator[Path]:
    """A place to write a file at, in a folder of its own beside `path`, since libraries write files beside theirs; it
    takes the name `path`, at one stroke, if the block succeeds.

    Raises `KdlabError` where the disk does not take it.
    """
    unfinished = _unfinished(path)
    try:
        unfinished.mkdir()
        yield unfinished / path.name
        os.replace(unfinished / path.name, path)
    except (OSError, SafetensorError) as error:
        raise cannot_write(path, error) from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole."""
    with replaced_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def new_folder(folder: Path) -> None:
    """Make the folder unless it is there. Raises `KdlabError` where it cannot be, or cannot be written to, before any
    long work."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise cannot_write(folder, error) from None


def cannot_write(path: str | Path, error: Exception) -> KdlabError:
    reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
    return KdlabError(f"{path}: nothing can be written there ({reason}); make room, or choose another place")


def _unfinished(path: Path) -> Path:
    """Where `path` is to be written first: a name beside it that tells whose work it is. What processes that are no
    more have left unfinished there is removed."""
    new_folder(path.parent)
    here = re.sub(r"\W", "_", socket.gethostname())
    for left in path.parent.glob(f".{escape(path.name)}.{here}-*"):
        owner = left.name.split("-")[-2]
        if owner.isdecimal() and not _alive(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
    unique = os.urandom(4).hex()
    return path.with_name(f".{path.name}.{here}-{os.getpid()}-{unique}")


def _alive(process: int) -> bool:
    """Where it cannot be told, yes."""
    if os.name != "posix":      # signal 0 asks nothing there
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:             # it is there, and somebody else's
        return True
    return True
