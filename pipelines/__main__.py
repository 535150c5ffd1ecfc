"""``python -m pipelines`` is ``embedonce``."""

import sys

from pipelines.cli import main

sys.exit(main())
