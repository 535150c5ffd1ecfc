"""Fixtures of the extraction tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.kit.threads import one_torch_thread  # noqa: F401 - a fixture of this folder
from tests.kit.vision_language import qwen_folders  # noqa: F401 - a fixture of this folder


@pytest.fixture
def two_torch_threads(one_torch_thread: None) -> Iterator[None]:  # noqa: F811 - the fixture, by name
    """Run torch on two threads, where the way work is split could show in the last bits."""
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)
