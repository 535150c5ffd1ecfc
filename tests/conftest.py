"""Settings of the whole suite."""

from __future__ import annotations

import os

# Before torch or LightGBM load: see pipelines/cli.py. No test may reach a model hub.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["HF_HUB_OFFLINE"] = "1"
