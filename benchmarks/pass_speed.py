"""Compare a whole pass with its ideal, with sentence-transformers and with a plain transformers loop.

    python benchmarks/pass_speed.py [ideal] [sentence-transformers] [dataloader] [--quick] [--only WORD]

Each comparison runs both sides alternately in one process and prints medians of the seconds on the clock and
of the processor's (of this process and of workers that have ended), which other programs disturb less. What
is timed is a pass without the seconds that loading the weights takes, on either side: reading and hashing the
data, deduplication, the forwards, and writing and verifying the store. ``--only`` leaves out the networks
whose name does not hold the word. Needs the extra ``test``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, before torch is loaded
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from true_sizes import make_bert, make_clip, make_resnet50, write_photos, write_tweets

from extract import Backbone, PassOptions, open_backbone, read_data_set, read_sources, run_pass
from extract.backbones import arithmetic, contract
from extract.batches import BatchPlanner
from extract.work import PassWork, open_inputs

Seconds = tuple[float, float]
"""On the clock, and of the processor."""


def now() -> Seconds:
    """Return both clocks."""
    spent = os.times()
    return time.perf_counter(), sum((spent.user, spent.system, spent.children_user, spent.children_system))


def since(began: Seconds) -> Seconds:
    """Return the seconds since `began` on both clocks."""
    wall, processor = now()
    return wall - began[0], processor - began[1]


def main() -> None:
    """Run the comparisons that are named, or all."""
    comparisons = {
        "sentence-transformers": against_sentence_transformers,
        "dataloader": against_dataloader,
        "ideal": against_ideal,
    }
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("comparisons", nargs="*", help=f"of {', '.join(comparisons)}; default: all")
    parser.add_argument("--quick", action="store_true", help="fewer inputs")
    parser.add_argument("--only", default="", metavar="WORD", help="networks whose name holds the word")
    asked = parser.parse_args()
    if unknown := sorted(set(asked.comparisons) - set(comparisons)):
        parser.error(f"{', '.join(unknown)}: allowed are {', '.join(comparisons)}")
    with tempfile.TemporaryDirectory() as folder:
        for name in asked.comparisons or comparisons:
            comparisons[name](Path(folder), quick=asked.quick, only=asked.only)


class Stopwatch:
    """Times `run_pass` without the seconds in which towers are opened."""

    def seconds(self, data: Path, backbone: Backbone, out: Path, *, modality: str, precision: str) -> Seconds:
        """Run one pass into a fresh folder and return its seconds."""
        shutil.rmtree(out, ignore_errors=True)
        backbone.weights_sha256()  # hashed once and kept: part of loading
        opened, original = (0.0, 0.0), backbone.open_tower

        def timed(*args: object, **options: object) -> contract.Tower:
            nonlocal opened
            began = now()
            tower = original(*args, **options)
            wall, processor = since(began)
            opened = opened[0] + wall, opened[1] + processor
            return tower

        backbone.open_tower = timed
        began = now()
        run_pass(
            read_data_set(data),
            backbone,
            PassOptions(out=out, precision=precision, modalities=(modality,)),
        )
        wall, processor = since(began)
        backbone.open_tower = original
        return wall - opened[0], processor - opened[1]


def alternate(sides: dict[str, Callable[[], Seconds]], repeats: int) -> dict[str, Seconds]:
    """Run each side in turn, `repeats` times, and print and return the median seconds."""
    seconds: dict[str, list[Seconds]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, run in sides.items():
            seconds[name].append(run())
    medians = {}
    for name, values in seconds.items():
        walls, processors = ([pair[i] for pair in values] for i in (0, 1))
        medians[name] = statistics.median(walls), statistics.median(processors)
        lines = [", ".join(f"{value:.2f}" for value in column) for column in (walls, processors)]
        say(f"  {name}: median {medians[name][0]:.2f} s ({lines[0]})")
        say(f"    of the processor {medians[name][1]:.2f} s ({lines[1]})")
    return medians


def ratio(above: Seconds, below: Seconds, digits: int = 2) -> str:
    """Return the ratio of both clocks as text."""
    return f"{above[0] / below[0]:.{digits}f} (processor {above[1] / below[1]:.{digits}f})"


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def against_sentence_transformers(folder: Path, *, quick: bool, only: str) -> None:
    """MiniLM with its real weights on tweets: distinct ones, and with a tenth repeated."""
    from sentence_transformers import SentenceTransformer

    if only not in "MiniLM-L6":
        return
    backbone = open_backbone("minilm-l6")
    weights = backbone._source.folder()
    n_texts = 1000 if quick else 4000
    for duplicates in (0.0, 0.1):
        table = folder / f"tweets-{duplicates}.csv"
        texts = write_tweets(table, n_texts, duplicates=duplicates)
        theirs = SentenceTransformer(str(weights), device="cpu")
        theirs.encode(texts[:64])

        def encode(model: SentenceTransformer = theirs, texts: list[str] = texts) -> Seconds:
            began = now()
            model.encode(texts, batch_size=32)
            return since(began)

        def ours(table: Path = table) -> Seconds:
            return Stopwatch().seconds(table, backbone, folder / "st", modality="text", precision="fp32")

        say(f"MiniLM-L6, {n_texts:,} tweets, {len(set(texts)):,} distinct:")
        medians = alternate({"sentence-transformers": encode, "embedonce": ours}, 3 if quick else 5)
        say(f"  embedonce is {ratio(medians['sentence-transformers'], medians['embedonce'])} times as fast")


def against_dataloader(folder: Path, *, quick: bool, only: str) -> None:
    """JPEGs through a plain transformers loop with a DataLoader, and through a pass."""
    n_images = 96 if quick else 320
    table = write_photos(folder / "photos", n_images)
    clip = make_clip(folder / "clip-vit-b32-random", size="b32")
    paths = [folder / "photos" / f"{i}.jpg" for i in range(n_images)]
    for name, weights, loop in (
        ("CLIP ViT-B/32", clip, plain_clip_loop(clip, paths)),
        ("ResNet50", make_resnet50(folder / "resnet50-random"), plain_resnet_loop(paths)),
    ):
        if only not in name:
            continue
        backbone = open_backbone(str(weights))

        def ours(precision: str, backbone: Backbone = backbone) -> Seconds:
            return Stopwatch().seconds(table, backbone, folder / "dl", modality="image", precision=precision)

        sides = {"plain loop, fp32": loop, "embedonce, fp32": lambda ours=ours: ours("fp32")}
        if name.startswith("CLIP"):
            sides["embedonce, bf16"] = lambda ours=ours: ours("bf16")
        say(f"{name}, {n_images} JPEGs of 600 x 563:")
        medians = alternate(sides, 3)
        for side in list(sides)[1:]:
            say(f"  {side} is {ratio(medians['plain loop, fp32'], medians[side])} times as fast as the loop")


class Pictures(torch.utils.data.Dataset):
    """What people write: open, convert, process."""

    def __init__(self, paths: list[Path], processor: Callable[..., object]) -> None:
        self.paths, self.processor = paths, processor

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> torch.Tensor:
        from PIL import Image

        image = Image.open(self.paths[i]).convert("RGB")
        return self.processor(images=image, return_tensors="pt")["pixel_values"][0]


def plain_clip_loop(weights: Path, paths: list[Path]) -> Callable[[], Seconds]:
    """Return a timed loop as in the documentation of transformers, with a DataLoader."""
    from transformers import AutoImageProcessor, CLIPModel

    model = CLIPModel.from_pretrained(weights, dtype=torch.float32).eval()
    pictures = Pictures(paths, AutoImageProcessor.from_pretrained(weights))
    return lambda: _loop(lambda batch: model.get_image_features(pixel_values=batch).pooler_output, pictures)


def plain_resnet_loop(paths: list[Path]) -> Callable[[], Seconds]:
    """Return the same loop for transformers' own ResNet50 of random weights."""
    from transformers import ConvNextImageProcessor, ResNetConfig, ResNetModel

    model = ResNetModel(ResNetConfig()).eval()
    pictures = Pictures(paths, ConvNextImageProcessor(size={"shortest_edge": 224}, crop_pct=0.875))
    return lambda: _loop(lambda batch: model(pixel_values=batch).pooler_output.flatten(1), pictures)


def _loop(forward: Callable[[torch.Tensor], torch.Tensor], pictures: Pictures) -> Seconds:
    began = now()
    loader = torch.utils.data.DataLoader(pictures, batch_size=32, num_workers=2)
    with torch.no_grad():
        np.concatenate([forward(batch).numpy() for batch in loader])
    return since(began)


def against_ideal(folder: Path, *, quick: bool, only: str) -> None:
    """A pass over the same forwards on ready tensors in the same batches, and over those of plain layers."""
    n_images, n_texts = (32, 400) if quick else (64, 1000)
    photos = write_photos(folder / "ideal-photos", n_images * 16)
    tweets = folder / "ideal-tweets.csv"
    write_tweets(tweets, n_texts)
    large = make_clip(folder / "clip-vit-l14-random", size="l14")
    for name, weights, modality, data, limit, precision in (
        ("ResNet50 images", make_resnet50(folder / "resnet50-ideal"), "image", photos, 16 * n_images, "fp32"),
        ("CLIP ViT-L/14 images", large, "image", photos, n_images, "fp32"),
        ("CLIP ViT-L/14 texts", large, "text", tweets, n_texts // 4, "fp32"),
        ("BERT-base texts", make_bert(folder / "bert-random"), "text", tweets, n_texts, "fp32"),
    ):
        if only not in name:
            continue
        backbone = open_backbone(str(weights))
        table = head_of(data, limit)
        ideal = ready_forwards(table, backbone, modality, precision, folder / "ideal")
        with mock.patch.object(arithmetic, "pack_layers", lambda _: None):
            plain = ready_forwards(table, backbone, modality, precision, folder / "ideal")

        def ours(
            table: Path = table, backbone: Backbone = backbone, m: str = modality, p: str = precision
        ) -> Seconds:
            return Stopwatch().seconds(table, backbone, folder / "out", modality=m, precision=p)

        say(f"{name}, {limit:,} inputs, {precision}:")
        medians = alternate({"ideal": ideal, "ideal with torch's own layers": plain, "pass": ours}, 3)
        for side in list(medians)[:2]:
            say(f"  a pass takes {ratio(medians['pass'], medians[side], 3)} of the {side}")


def head_of(table: Path, n_rows: int) -> Path:
    """Write the first rows of a table beside it."""
    target = table.with_name(f"first-{n_rows}-{table.name}")
    lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    target.write_text("".join(lines[: n_rows + 1]), encoding="utf-8")
    return target


def ready_forwards(
    table: Path, backbone: Backbone, modality: str, precision: str, out: Path
) -> Callable[[], Seconds]:
    """Return a timed run of a pass's own forwards, its inputs prepared before."""
    data_set = read_data_set(table)
    options = PassOptions(out=out, precision=precision, modalities=(modality,))
    work = PassWork.gather(data_set, read_sources(data_set, options.source), backbone, options)
    inputs = open_inputs([work], modality, "cpu")
    units = np.unique(work.rows(modality).first).tolist()
    shards = [units[i : i + options.shard_rows] for i in range(0, len(units), options.shard_rows)]
    planner = BatchPlanner(shards, inputs.buckets, inputs.capacity)
    batches = [inputs.prepare(batch, [np.ones(len(batch), dtype=bool)]).items[0] for batch in planner]
    n_workers = torch.get_num_threads()

    def run() -> Seconds:
        with ThreadPoolExecutor(n_workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            began = now()
            for _ in pool.map(lambda items: inputs.forward(0, items), batches):
                pass
            seconds = since(began)
        torch.set_num_threads(n_workers)
        return seconds

    return run


if __name__ == "__main__":
    main()
