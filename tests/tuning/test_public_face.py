"""`import tuning` is cheap, and its face is complete."""

import subprocess
import sys

import pytest

import tuning


def test_import_tuning_loads_nothing_heavy():
    """Importing the package brings in none of the libraries; a name brings in what it needs."""
    code = (
        "import sys, tuning\n"
        "heavy = {'numpy', 'scipy', 'sklearn', 'optuna', 'torch', 'lightgbm', 'heads'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "tuning.macro_f1\n"
        "assert not (heavy - {'numpy'}) & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tuning.__path__[0] + "/..")


def test_public_names_all_load():
    """Every name of the face exists, and is listed once and in dir()."""
    assert len(set(tuning.__all__)) == len(tuning.__all__)
    assert all(getattr(tuning, name) is not None for name in tuning.__all__)
    assert dir(tuning) == sorted(tuning.__all__)


def test_unknown_names_are_attribute_errors():
    """A name that does not exist fails as for any module."""
    with pytest.raises(AttributeError, match="module 'tuning' has no attribute 'nonsense'"):
        _ = tuning.nonsense
