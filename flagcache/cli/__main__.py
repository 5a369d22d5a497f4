"""`python -m flagcache.cli`: the command, if its script is not installed."""

from __future__ import annotations

import sys

from flagcache.cli import main

sys.exit(main())
