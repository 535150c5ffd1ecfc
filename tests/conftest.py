"""Settings of the whole suite."""

from __future__ import annotations

import gc
import os
import signal

from hypothesis import HealthCheck, settings

# Before torch or LightGBM load: see pipelines/cli.py. No test may reach a model hub.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["HF_HUB_OFFLINE"] = "1"

# A shell that starts the suite in the background makes it, and all that it starts, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run, however slow the machine: what fails here fails everywhere.
settings.register_profile(
    "suite", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
# pytest --hypothesis-profile=search looks for new ones.
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


def pytest_collection_finish() -> None:
    """Let full collections skip what lives as long as the session: 670,000 objects of modules and tests."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Let Python free everything when it closes: some libraries complain of what is left."""
    gc.unfreeze()
