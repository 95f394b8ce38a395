"""The one exception kdlab raises for something the user can mend."""

from __future__ import annotations


class KdlabError(ValueError):
    """Input, data or settings that cannot be right.

    Its text is one sentence that says what is wrong, where, and what to do. The command line prints
    that sentence and exits with status 2; a notebook shows it as the last line of the traceback.
    """
