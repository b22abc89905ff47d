"""``python -m toolring``."""

from __future__ import annotations

import sys

from toolring.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
