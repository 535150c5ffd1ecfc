"""Measure whole passes on a GPU: throughput, peak memory, and the ratio to the forwards and to decoding.

    PYTHONPATH=. python benchmarks/gpu_extract.py [--nets b32,l14,bert,resnet50] [--images 4000]
        [--texts 20000] [--precision auto] [--max-memory 1GB] [--folder DIR] [--json FILE] [--tiny]

For each network a checkpoint of the true size with random weights is written to disk, and a data set of JPEGs
(600x563) or tweet-like texts; then the real pass runs: reading, decoding, hashing, forwards, writing and
verifying. It runs twice, the second time with the batch size that the first has found; the second is
measured. Loading the weights counts nowhere. The columns:

inputs/s    what the pass embeds
bare/s      the same forwards, in the pass's own batches, on inputs that already lie on the device; the
            vectors stay there, and it is waited for once, at the end. Nothing that a pass could do is faster,
            so bare/pass, the pass's time over this, is what a pass costs beyond the network. (On a CPU these
            forwards run one after the other with all threads, which the pass does better.)
decode/s    for images, reading, hashing, decoding and preprocessing alone, on as many threads as the pass has
            readers, with the device idle; decode/pass above 1 means that the cores could have fed it more
peak        most that torch's allocator held on the device during the pass

``--tiny`` is a smoke test: tiny networks and a few inputs, also on a CPU, in under a minute. Nothing is
downloaded. Published for one A100 (clip-retrieval, its documentation): B/32 2500/s, L/14 312/s.
"""

from __future__ import annotations

import argparse
import hashlib
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
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, before torch is loaded
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from transformers.utils.logging import disable_progress_bar
from true_sizes import make_clip, make_resnet50, write_photos, write_tweets

from extract import (
    Backbone,
    PassOptions,
    decode_image,
    open_backbone,
    parse_bytes,
    read_data_set,
    read_image_file,
    resolve_device,
    resolve_precision,
    run_pass,
)
from extract.backbones import image_towers, text_towers
from extract.backbones.arithmetic import forward_context
from extract.backbones.device_forwards import run_forward

PUBLISHED = {"b32": 2500, "l14": 312}
MODALITY = {"b32": "image", "l14": "image", "bert": "text", "resnet50": "image"}
#: Bytes of inputs that lie on the device for the bare forwards: all texts, and a few thousand pictures.
BARE_BYTES = 512_000_000
#: Times that the bare forwards and the decoding are repeated; the median counts.
REPEATS = 3


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
    decode_rate : float or None
        Images per second that the cores read, decode and preprocess; None for texts.
    largest_batch : int
        Rows of the pass's largest forward.
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
    decode_rate: float | None
    largest_batch: int
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
            f"{'net':14}{'prec':>5}{'batch':>7}{'inputs/s':>10}{'bare/s':>9}{'bare/pass':>11}{'decode/s':>10}"
            f"{'decode/pass':>13}{'peak':>10}{'published':>11}"
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
    timed = TimedPass(data, backbone, folder / "out", modality, settings)
    for _ in range(2):
        timed.run()
    rate = n_inputs / timed.seconds
    decode_rate = None if modality == "text" else decoding(timed.tower, data)
    return Figures(
        checkpoint.name, modality, device, precision, n_inputs, timed.seconds, rate, bare(timed, device),
        decode_rate, max(forward.n_rows for forward in timed.forwards), timed.peak_bytes,
    )  # fmt: skip


@dataclass(frozen=True)
class Forward:
    """One forward of a pass: what the network reads, and from which arrays."""

    network: Any
    readouts: Sequence[str]
    read: Callable[..., Any]
    arrays: Sequence[Any]

    @property
    def n_rows(self) -> int:
        """Rows of the batch; the first array of every tower has one a row."""
        return len(self.arrays[0])


class TimedPass:
    """A pass into a fresh folder, run again and again.

    Attributes
    ----------
    seconds : float
        Of the latest run, without loading the weights.
    peak_bytes : int or None
        Most that torch's allocator held in it.
    tower : Tower
        That it opened.
    forwards : list of Forward
        That it ran first, up to `BARE_BYTES` of inputs.
    """

    def __init__(
        self, data: Path, backbone: Backbone, out: Path, modality: str, settings: dict[str, Any]
    ) -> None:
        self._data, self._backbone, self._out = data, backbone, out
        self._modality, self._settings = modality, settings
        backbone.weights_sha256()  # hashed once and kept: part of loading

    def run(self) -> None:
        """Run the pass."""
        shutil.rmtree(self._out, ignore_errors=True)
        self.forwards: list[Forward] = []
        self._opening, self._n_bytes = 0.0, 0
        on_gpu = self._settings["device"] != "cpu"
        if on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        data_set = read_data_set(self._data)
        options = PassOptions(out=self._out, modalities=(self._modality,), **self._settings)
        with (
            mock.patch.object(self._backbone, "open_tower", partial(self._open, self._backbone.open_tower)),
            mock.patch.object(image_towers, "run_forward", self._note),
            mock.patch.object(text_towers, "run_forward", self._note),
        ):
            began = time.perf_counter()
            run_pass(data_set, self._backbone, options)
            self.seconds = time.perf_counter() - began - self._opening
        self.peak_bytes = torch.cuda.max_memory_reserved() if on_gpu else None

    def _open(self, open_tower: Callable[..., Any], *given: Any, **named: Any) -> Any:
        began = time.perf_counter()
        self.tower = open_tower(*given, **named)
        self._opening += time.perf_counter() - began
        return self.tower

    def _note(
        self, network: Any, device: str, readouts: Sequence[str], read: Callable[..., Any], *arrays: Any
    ) -> Any:
        """Run a forward of the pass, and keep what it was given."""
        if self._n_bytes < BARE_BYTES:
            self._n_bytes += sum(array.nbytes for array in arrays)
            self.forwards.append(Forward(network, readouts, read, arrays))
        return run_forward(network, device, readouts, read, *arrays)


def bare(timed: TimedPass, device: str) -> float:
    """Return the rate (inputs per second) of the forwards of a pass, on inputs that lie on the device."""
    if device != "cpu":
        torch.cuda.set_per_process_memory_fraction(1.0, torch.cuda.current_device())  # for all the inputs
    inputs = [[torch.from_numpy(array).to(device) for array in each.arrays] for each in timed.forwards]
    rate = sum(each.n_rows for each in timed.forwards)
    return rate / median_seconds(lambda: run_bare(timed.forwards, inputs, device))


@torch.inference_mode()
def run_bare(forwards: Sequence[Forward], inputs: Sequence[Sequence[Any]], device: str) -> None:
    """Run forwards and wait for the last of them."""
    kept = []
    for each, tensors in zip(forwards, inputs, strict=True):
        with forward_context(each.network):
            found = each.read(*tensors)
        kept.append([found[readout].float() for readout in each.readouts])
    if device != "cpu":
        torch.cuda.synchronize(device)


def decoding(tower: Any, data: Path) -> float:
    """Return the rate (images per second) at which the cores make inputs for `tower` of image files."""
    paths = [sample.image_path for sample in read_data_set(data).samples]

    def prepare(path: Path) -> None:
        content = read_image_file(path)
        hashlib.sha256(content).digest()  # as a pass does, to see that the file is the one it has planned
        tower.preprocess(decode_image(content))

    def prepare_all() -> None:
        with ThreadPoolExecutor(max(1, torch.get_num_threads())) as pool:
            for _ in pool.map(prepare, paths):
                pass

    return len(paths) / median_seconds(prepare_all)


def median_seconds(run: Callable[[], None]) -> float:
    """Return the median seconds of a few runs, after one that warms up."""
    run()
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def line(figures: Figures) -> str:
    """Return one line of the table."""
    peak = "-" if figures.peak_bytes is None else f"{figures.peak_bytes / 1e6:,.0f} MB"
    published = f"{PUBLISHED[figures.net]}/s" if figures.net in PUBLISHED else "-"
    decode = (
        ("-", "-")
        if figures.decode_rate is None
        else (f"{figures.decode_rate:.0f}", f"{figures.decode_rate / figures.rate:.2f}")
    )
    return (
        f"{figures.net:14}{figures.precision:>5}{figures.largest_batch:7}{figures.rate:10.0f}"
        f"{figures.bare_rate:9.0f}{figures.bare_rate / figures.rate:11.2f}{decode[0]:>10}{decode[1]:>13}"
        f"{peak:>10}{published:>11}"
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
