"""The one exception kdlab raises for something the user can mend."""

from __future__ import annotations

from importlib.util import find_spec


class KdlabError(ValueError):
    """Input, data or settings that cannot be right.

    Its text is one sentence that says what is wrong, where, and what to do. The command line prints
    that sentence and exits with status 2; a notebook shows it as the last line of the traceback.
    """


def require(what: str, *packages: str) -> None:
    """Raise `KdlabError` unless the packages that `what` needs besides the kit's own are there."""
    missing = " ".join(name for name in packages if find_spec(name) is None)
    if missing:
        raise KdlabError(f"{what} needs what this environment lacks; run pip install {missing}")
