"""Fixtures of the extraction tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def one_torch_thread() -> Iterator[None]:
    """Run torch on one thread: on a busy machine, threads that wait for each other take ten times longer."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def two_torch_threads(one_torch_thread: None) -> Iterator[None]:
    """Run torch on two threads, where the way work is split could show in the last bits."""
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)
