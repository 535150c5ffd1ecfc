"""What a pass on a CPU takes, measured on a network of true width: no more than --max-memory was told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.data_sets import write_guid_data_set
from tests.kit.tiny_checkpoints import make_tiny_bert

ROOT = Path(__file__).resolve().parents[2]

# The small network loads every library first; then the peak is begun anew.
_MEASURED = """
import sys
from pathlib import Path
from benchmarks.peak import peak_bytes, resident_bytes
from extract import PassOptions, open_backbone, read_data_set, run_pass
from extract.probing import bytes_on_cpu
precision, folder, small, large = sys.argv[1], *map(Path, sys.argv[2:])
def measured(weights, out):
    backbone = open_backbone(str(weights))
    before = resident_bytes()
    Path("/proc/self/clear_refs").write_text("5")
    options = PassOptions(out=folder / out, precision=precision, modalities=("text",))
    run_pass(read_data_set(folder / "set"), backbone, options)
    return peak_bytes() - before, bytes_on_cpu(backbone, "text", precision)
measured(small, "a")
print(*measured(large, "b"))
"""


@pytest.mark.nightly
@pytest.mark.skipif(sys.platform != "linux", reason="a process's peak is begun anew through /proc")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_pass_takes_no_more_than_its_estimate(tmp_path: Path, precision: str) -> None:
    """Nor much less, or nothing would have been measured. On one core; with more, the allocator decides."""
    write_guid_data_set(tmp_path / "set", 40, 0)
    small, large = _berts(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, precision, str(tmp_path), str(small), str(large)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    peak, estimate = map(int, done.stdout.split())
    assert 0.5 * estimate < peak < estimate


def _berts(folder: Path) -> tuple[Path, Path]:
    """Save a tiny BERT and one of BERT-base's width with six of its layers."""
    from transformers import BertConfig, BertModel

    small, large = make_tiny_bert(folder / "small"), make_tiny_bert(folder / "large")
    values = json.loads((small / "config.json").read_text(encoding="utf-8"))
    values |= {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
    BertModel(BertConfig(**values | {"num_hidden_layers": 6})).save_pretrained(large)
    return small, large
