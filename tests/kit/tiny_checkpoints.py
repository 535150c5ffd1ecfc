"""Tiny checkpoints: real architectures and tokenizers, made from a config and a fixed seed, saved to disk."""

from __future__ import annotations

import json
from pathlib import Path

import torch

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = [
    *LETTERS, *(f"##{letter}" for letter in LETTERS), *"0123456789.,!?我你好天气",
    "the", "cat", "dog", "sat", "on", "mat", "good", "bad", "day", "rain", "sun",
    "happy", "sad", "very", "not", "is",
]  # fmt: skip
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SEED = 0


def make_tiny_bert(folder: Path, *, with_pooler: bool = True, safetensors: bool = True) -> Path:
    """Save a BERT of two layers and width 32 with a WordPiece tokenizer; returns `folder`."""
    from transformers import BertModel

    folder.mkdir(parents=True, exist_ok=True)
    _write_wordpiece(folder)
    torch.manual_seed(SEED)
    model = _spread(BertModel(_bert_config(), add_pooling_layer=with_pooler))
    if safetensors:
        model.save_pretrained(folder)
    else:
        model.config.save_pretrained(folder)
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return folder


def make_tiny_sentence_transformer(
    folder: Path, *, pooling: str = "mean", normalise: bool = True, max_tokens: int = 16
) -> Path:
    """Save a folder like MiniLM's: a tiny BERT, its pooling and its normalisation; returns `folder`."""
    make_tiny_bert(folder)
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")][
        : 3 if normalise else 2
    ]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds)
    ]
    flags = {"cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens"}
    pooled = {flag: mode == pooling for mode, flag in flags.items()}
    _write_json(folder / "modules.json", modules)
    (folder / "1_Pooling").mkdir(exist_ok=True)
    _write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 32, **pooled})
    _write_json(folder / "sentence_bert_config.json", {"max_seq_length": max_tokens, "do_lower_case": False})
    return folder


def make_tiny_clip(folder: Path) -> Path:
    """Save a CLIP of two layers a tower, a byte-level BPE tokenizer, an image processor; returns `folder`."""
    from transformers import CLIPConfig, CLIPModel

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = _write_bpe(folder)
    text = {"vocab_size": len(vocabulary), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 2, "max_position_embeddings": 16, "projection_dim": 24}
    end = len(vocabulary) - 1
    text |= {"bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end}
    vision = {"hidden_size": 40, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": 32, "patch_size": 8, "projection_dim": 24}
    torch.manual_seed(SEED)
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
    _spread(CLIPModel(config)).save_pretrained(folder)
    processor = {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True, "size": {"shortest_edge": 32}, "resample": 3,
        "do_center_crop": True, "crop_size": {"height": 32, "width": 32},
        "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "do_convert_rgb": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
    }  # fmt: skip
    _write_json(folder / "preprocessor_config.json", processor)
    return folder


def make_resnet18(folder: Path, *, safetensors: bool = False) -> Path:
    """Save a ResNet18 state dict with random weights; returns `folder`."""
    import torchvision
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    state = torchvision.models.resnet18().state_dict()
    if safetensors:
        save_file(state, folder / "resnet18.safetensors")
    else:
        torch.save(state, folder / "resnet18.pth")
    return folder


def _bert_config():
    from transformers import BertConfig

    return BertConfig(
        vocab_size=len(SPECIAL) + len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=48,
    )


def _spread(model: torch.nn.Module) -> torch.nn.Module:
    """Scale the initial weights up: at 0.02 all texts get nearly one vector, which hides a wrong mask."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    return model.eval()


def _write_wordpiece(folder: Path) -> None:
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *WORDS]) + "\n", encoding="utf-8")
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 48}
    settings |= {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    _write_json(folder / "tokenizer_config.json", {**settings, "mask_token": "[MASK]"})


def _write_bpe(folder: Path) -> dict[str, int]:
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    merges = [
        ("t", "h"),
        ("th", "e</w>"),
        ("c", "a"),
        ("ca", "t</w>"),
        ("d", "o"),
        ("do", "g</w>"),
        ("g", "o"),
    ]
    tokens = [*letters, *(letter + "</w>" for letter in letters), *(a + b for a, b in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    _write_json(folder / "vocab.json", vocabulary)
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    end = "<|endoftext|>"
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 16, "bos_token": "<|startoftext|>"}
    _write_json(
        folder / "tokenizer_config.json", {**settings, "eos_token": end, "pad_token": end, "unk_token": end}
    )
    return vocabulary


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")
