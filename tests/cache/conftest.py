"""Fixtures of the feature store's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cache.builders import Toy


@pytest.fixture
def toy() -> Toy:
    """A store of 10 rows with a text and an image space."""
    return Toy()


@pytest.fixture(scope="session")
def toy_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The toy store's file, published once for all tests."""
    return Toy().write(tmp_path_factory.mktemp("toy") / "toy.h5").read_bytes()


@pytest.fixture
def store_path(toy_bytes: bytes, tmp_path: Path) -> Path:
    """A copy of the toy store that a test may spoil."""
    path = tmp_path / "toy.h5"
    path.write_bytes(toy_bytes)
    return path
