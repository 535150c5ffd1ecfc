"""Measure the peak memory of a pass as the data set grows, with a tiny network.

    python benchmarks/host_memory.py [10000 100000 1000000]

Each size runs in a process of its own. Printed are its peak resident memory, and that of a process that only
reads the table: what lies between is the pass. A million tweets take about ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from peak import peak_bytes
from true_sizes import write_tweets


def main() -> None:
    """Print one line per size, or measure one of them in a child process."""
    if sys.argv[1:2] == ["--child"]:
        measure(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sizes", nargs="*", type=int, default=[10_000, 100_000, 1_000_000])
    sizes = parser.parse_args().sizes
    with tempfile.TemporaryDirectory() as folder:
        weights = make_small_bert(Path(folder) / "small-bert")
        for size in sizes:
            table = Path(folder) / f"tweets-{size}.csv"
            write_tweets(table, size)
            read, _ = run(table, weights, Path(folder) / "out", "read")
            peak, seconds = run(table, weights, Path(folder) / f"out-{size}", "pass")
            sys.stdout.write(
                f"{size:>9,} texts: peak {peak:,} MiB, reading the table alone {read:,} MiB, "
                f"{seconds:.0f} s ({size / seconds:,.0f} texts/s)\n"
            )
            sys.stdout.flush()


def run(table: Path, weights: Path, out: Path, what: str) -> tuple[int, float]:
    """Return peak MiB and seconds of one process."""
    command = [sys.executable, __file__, "--child", str(table), str(weights), str(out), what]
    peak, seconds = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return int(peak), float(seconds)


def measure(table: str, weights: str, out: str, what: str) -> None:
    """Read a table, embed it if `what` is "pass", and print peak MiB and seconds."""
    import transformers.models.bert.modeling_bert  # noqa: F401 - also where nothing is embedded

    from extract import PassOptions, open_backbone, read_data_set, run_pass

    data_set = read_data_set(Path(table))
    began = time.perf_counter()
    if what == "pass":
        run_pass(data_set, open_backbone(weights), PassOptions(out=Path(out)))
    sys.stdout.write(f"{peak_bytes() >> 20} {time.perf_counter() - began:.1f}\n")


def make_small_bert(folder: Path) -> Path:
    """Save a BERT of one layer and width 32 with BERT's own vocabulary; returns `folder`."""
    from transformers import BertConfig, BertModel
    from true_sizes import copy_bert_tokenizer

    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(**size)).save_pretrained(folder)
    copy_bert_tokenizer(folder)
    return folder


if __name__ == "__main__":
    main()
