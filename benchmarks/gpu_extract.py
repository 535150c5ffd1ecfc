"""Measure whole passes on a GPU: throughput, peak memory, and the ratio to the bare forwards.

    PYTHONPATH=. python benchmarks/gpu_extract.py [--nets b32,l14,bert,resnet50] [--images 4000]
        [--texts 20000] [--precision auto] [--max-memory 1GB] [--folder DIR] [--json FILE] [--tiny]

For each network a checkpoint of the true size with random weights is written to disk, and a data set of JPEGs
(600x563) or tweet-like texts; then the real pass runs: reading, decoding, hashing, forwards, writing and
verifying. "bare" are the same forwards on inputs that lie ready in memory, in the best of a few batch sizes,
copies to and from the device included. Loading the weights counts on neither side. The pass runs twice, the
second time with the batch size that the first has found; the second is printed. "peak" is what torch's
allocator held.

``--tiny`` is a smoke test: tiny networks and a few inputs, also on a CPU, in under a minute. Nothing is
downloaded. Published for one A100 (clip-retrieval, its documentation): B/32 2500/s, L/14 312/s.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, before torch is loaded
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from transformers.utils.logging import disable_progress_bar
from true_sizes import make_clip, make_resnet50, write_photos, write_tweets

from extract import (
    Backbone,
    PassOptions,
    open_backbone,
    parse_bytes,
    read_data_set,
    resolve_device,
    resolve_precision,
    run_pass,
)

PUBLISHED = {"b32": 2500, "l14": 312}
MODALITY = {"b32": "image", "l14": "image", "bert": "text", "resnet50": "image"}
#: Batch sizes of the bare forwards; the best one counts.
BARE_BATCHES = (64, 128, 256, 512)
#: Inputs that lie ready in memory for the bare forwards.
BARE_INPUTS = 1024


@dataclass(frozen=True)
class Figures:
    """What was measured for one network.

    Attributes
    ----------
    net, modality, device, precision : str
    n_inputs : int
        Of the pass.
    seconds : float
        Of the second pass, without loading the weights.
    rate, bare_rate : float
        Inputs per second of that pass and of the bare forwards.
    bare_batch : int
    peak_bytes : int or None
        Most that torch's allocator held on the device during the pass; None on a CPU.
    """

    net: str
    modality: str
    device: str
    precision: str
    n_inputs: int
    seconds: float
    rate: float
    bare_rate: float
    bare_batch: int
    peak_bytes: int | None


def main() -> None:
    """Measure the networks that are named and print one line each."""
    options = parse_options()
    disable_progress_bar()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(options.folder or made)
        device = resolve_device("auto")
        name = torch.cuda.get_device_name(device) if device != "cpu" else "CPU"
        say(f"{name}, torch {torch.__version__}, {os.cpu_count()} cores")
        say(
            f"{'net':10}{'prec':>6}{'inputs/s':>10}{'bare/s':>9}{'bare/pass':>11}{'peak':>9}{'published':>11}"
        )
        figures = []
        for net in options.nets.split(","):
            figures.append(measure(net, folder, device, options))
            say(line(figures[-1]))
    if options.json:
        Path(options.json).write_text(json.dumps([asdict(each) for each in figures], indent=1))


def parse_options() -> argparse.Namespace:
    """Parse the command line; ``--tiny`` shrinks what was not asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nets", default=",".join(MODALITY))
    parser.add_argument("--images", type=int)
    parser.add_argument("--texts", type=int)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--max-memory", type=parse_bytes)
    parser.add_argument("--folder")
    parser.add_argument("--json")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    options.images = options.images or (24 if options.tiny else 4000)
    options.texts = options.texts or (100 if options.tiny else 20_000)
    unknown = set(options.nets.split(",")) - set(MODALITY)
    if unknown:
        parser.error(f"--nets {', '.join(sorted(unknown))} is not known; allowed are {', '.join(MODALITY)}")
    return options


def measure(net: str, folder: Path, device: str, options: argparse.Namespace) -> Figures:
    """Build a checkpoint and a data set where they are not there yet, and measure both ways."""
    checkpoint = folder / f"{net}{'-tiny' if options.tiny else ''}"
    if not checkpoint.is_dir():
        (make_tiny if options.tiny else make_net)(net, checkpoint)
    modality = MODALITY[net]
    data = images_of(folder, options.images) if modality == "image" else texts_of(folder, options.texts)
    backbone = open_backbone(str(checkpoint))
    precision = resolve_precision(options.precision, device, backbone.card)
    settings = {"device": device, "precision": precision, "max_memory": options.max_memory}
    n_inputs = len(read_data_set(data).samples)
    seconds, peak = 0.0, None
    for _ in range(2):
        seconds, peak = timed_pass(data, backbone, folder / "out", modality, settings)
    bare_rate, bare_batch = bare(backbone, data, modality, device, precision)
    rate = n_inputs / seconds
    return Figures(
        checkpoint.name, modality, device, precision, n_inputs, seconds, rate, bare_rate, bare_batch, peak
    )


def timed_pass(
    data: Path, backbone: Backbone, out: Path, modality: str, settings: dict[str, Any]
) -> tuple[float, int | None]:
    """Run one pass into a fresh folder; returns its seconds without loading, and the peak memory in bytes."""
    shutil.rmtree(out, ignore_errors=True)
    backbone.weights_sha256()  # hashed once and kept: part of loading
    open_tower, opening = backbone.open_tower, [0.0]

    def open_timed(*args: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return open_tower(*args, **named)
        finally:
            opening[0] += time.perf_counter() - began

    if settings["device"] != "cpu":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    data_set = read_data_set(data)
    backbone.open_tower = open_timed  # type: ignore[method-assign]
    try:
        began = time.perf_counter()
        run_pass(data_set, backbone, PassOptions(out=out, modalities=(modality,), **settings))
        seconds = time.perf_counter() - began - opening[0]
    finally:
        backbone.open_tower = open_tower  # type: ignore[method-assign]
    return seconds, torch.cuda.max_memory_reserved() if settings["device"] != "cpu" else None


def bare(backbone: Backbone, data: Path, modality: str, device: str, precision: str) -> tuple[float, int]:
    """Return the best rate (inputs per second) of forwards on ready inputs, and its batch size."""
    tower: Any = backbone.open_tower(modality, device=device, precision=precision)
    inputs = ready_inputs(tower, data, modality)
    rates = {}
    for size in BARE_BATCHES:
        size = min(size, len(inputs))
        batches = [inputs[i : i + size] for i in range(0, len(inputs) - size + 1, size)]
        tower.forward(batches[0])  # warms up
        seconds = []
        for _ in range(3):
            began = time.perf_counter()
            for batch in batches:
                tower.forward(batch)
            seconds.append(time.perf_counter() - began)
        rates[size] = size * len(batches) / statistics.median(seconds)
    best = max(rates, key=lambda size: rates[size])
    return rates[best], best


def ready_inputs(tower: Any, data: Path, modality: str) -> Sequence[Any]:
    """Return inputs of the tower, decoded or tokenised; texts sorted by length, as a pass does."""
    samples = read_data_set(data).samples[:BARE_INPUTS]
    if modality == "text":
        tokens = tower.tokenise([sample.text for sample in samples])
        return sorted(tokens, key=lambda each: len(each.ids))
    from extract import decode_image, read_image_file

    with ThreadPoolExecutor() as pool:
        return list(
            pool.map(lambda s: tower.preprocess(decode_image(read_image_file(s.image_path))), samples)
        )


def line(figures: Figures) -> str:
    """Return one line of the table."""
    peak = "-" if figures.peak_bytes is None else f"{figures.peak_bytes / 1e6:,.0f} MB"
    published = f"{PUBLISHED[figures.net]}/s" if figures.net in PUBLISHED else "-"
    return (
        f"{figures.net:10}{figures.precision:>6}{figures.rate:10.0f}{figures.bare_rate:9.0f}"
        f"{figures.bare_rate / figures.rate:11.2f}{peak:>9}{published:>11}"
    )


def images_of(folder: Path, n_images: int) -> Path:
    """Write the JPEGs, several processes at a time, unless they are there; returns the table."""
    table = folder / f"photos-{n_images}.csv"
    if table.is_file():
        return table
    chunk = 100
    parts = [(folder / f"photos-{n_images}" / str(i), i) for i in range(0, n_images, chunk)]
    with ProcessPoolExecutor() as pool:
        jobs = [
            pool.submit(write_photos, part, min(chunk, n_images - start), seed=start) for part, start in parts
        ]
        tables = [job.result() for job in jobs]
    rows = ["id,image,label"]
    for part in tables:
        for row in part.read_text(encoding="utf-8").splitlines()[1:]:
            number, image, label = row.split(",")
            inside = (part.parent / image).relative_to(folder).as_posix()
            rows.append(f"{part.parent.name}-{number},{inside},{label}")
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return table


def texts_of(folder: Path, n_texts: int) -> Path:
    """Write the texts; returns the table."""
    table = folder / f"texts-{n_texts}.csv"
    if not table.is_file():
        write_tweets(table, n_texts)
    return table


def make_net(net: str, folder: Path) -> None:
    """Write a checkpoint of the true size."""
    makers: dict[str, Callable[[], object]] = {
        "b32": lambda: make_clip(folder, size="b32"),
        "l14": lambda: make_clip(folder, size="l14"),
        "bert": lambda: make_bert(folder),
        "resnet50": lambda: make_resnet50(folder),
    }
    makers[net]()


def make_tiny(net: str, folder: Path) -> None:
    """Write a checkpoint that a CPU embeds at once; ResNets come in no smaller size than 18."""
    if net == "bert":
        make_bert(folder, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128)
    elif net == "resnet50":
        import torchvision

        folder.mkdir(parents=True)
        torch.manual_seed(0)
        torch.save(torchvision.models.resnet18().state_dict(), folder / "resnet18.pth")
    else:
        make_clip(folder, size="tiny")


def make_bert(folder: Path, **sizes: int) -> None:
    """Write a BERT with random weights and a WordPiece of BERT's size that knows the words of the texts.

    Not BERT's own tokenizer, which a machine without the extra ``demo`` lacks.
    """
    from transformers import BertConfig, BertModel

    folder.mkdir(parents=True)
    torch.manual_seed(0)
    BertModel(BertConfig(**sizes)).save_pretrained(folder)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789@#.,!?"
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    texts = write_tweets(folder / "example_texts.csv", 500)
    known = sorted({word for text in texts for word in text.split() if word.isalpha() and len(word) > 1})
    words = [*special, *letters, *(f"##{letter}" for letter in letters), "no", *known]
    words += [f"[unused{i}]" for i in range(30_522 - len(words))]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 512}
    settings |= {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "mask_token": "[MASK]"}))


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
