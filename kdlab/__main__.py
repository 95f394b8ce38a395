"""`python -m kdlab`: see `kdlab.cli`."""

import sys

from .cli import main

sys.exit(main())
