"""Tiny two-tower networks of every family, with real tokenizers and image processors, saved to disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tests.kit.tiny_checkpoints import SEED, _write_bpe, _write_json
from tests.kit.tiny_text import write_tokenizer

#: Families that project both towers, and the transformers class of each.
PROJECTED = {
    "clip": "CLIP",
    "metaclip_2": "MetaClip2",
    "chinese_clip": "ChineseCLIP",
    "altclip": "AltCLIP",
    "aimv2": "Aimv2",
}
SIDE = 32
_SMALL = {"intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
_VISION = {**_SMALL, "hidden_size": 40, "image_size": SIDE, "patch_size": 8}
_TEXTS = [
    "the cat sat on the mat", "a dog and a cat go out in the rain", "what a happy day", "very sad, not good",
    "it is the best of days and the worst of days", "sun and rain", "do not go", "good dog bad cat",
]  # fmt: skip


def make_tiny_projected(folder: Path, family: str, *, safetensors: bool = True) -> Path:
    """Save a network of one of ``PROJECTED``, two layers a tower; returns `folder`."""
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    text = _text_settings(folder, family)
    vision = dict(_VISION)
    if family == "aimv2":
        vision["num_attention_heads"] = 4
    else:
        vision["projection_dim"] = 24
    config_class = getattr(transformers, f"{PROJECTED[family]}Config")
    config = config_class(text_config=text, vision_config=vision, projection_dim=24)
    torch.manual_seed(SEED)
    model = spread(getattr(transformers, f"{PROJECTED[family]}Model")(config), 4)
    _save(model, folder, safetensors=safetensors)
    _write_processor(folder, exact=family == "chinese_clip")
    return folder


def make_tiny_siglip(folder: Path, *, limit: int = 16) -> Path:
    """Save a SigLIP with a SentencePiece model trained on a few lines; returns `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = _write_sentencepiece(folder, limit)
    _save_siglip(folder, "Siglip", {"vocab_size": vocabulary, "max_position_embeddings": limit})
    _write_squeezing_processor(folder, "SiglipImageProcessor", resample=3)
    return folder


def make_tiny_siglip2(folder: Path, *, naflex: bool = False, limit: int = 16) -> Path:
    """Save a SigLIP 2 with a tokenizer of Gemma's kind, declared as on the hub; returns `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    text = {"vocab_size": _write_gemma(folder), "max_position_embeddings": limit}
    _save_siglip(folder, "Siglip2" if naflex else "Siglip", text)
    if naflex:
        settings = {"image_processor_type": "Siglip2ImageProcessor", "patch_size": 8, "max_num_patches": 16}
        _write_json(folder / "preprocessor_config.json", {**settings, "resample": 2, **_half()})
    else:
        _write_squeezing_processor(folder, "SiglipImageProcessor", resample=2)
    return folder


def make_tiny_openclip(
    folder: Path, clip: Path, *, safetensors: bool = True, custom_text: bool = False, **changes: Any
) -> Path:
    """Save the CLIP in `clip` in OpenCLIP's layout: other names, joined attention, no config.json.

    Parameters
    ----------
    custom_text : bool
        Whether the text tower's names begin with "text.".
    **changes
        Entries of ``model_cfg``; "vision_cfg", "text_cfg" and "preprocess_cfg" are merged.
    """
    from safetensors.torch import load_file, save_file

    folder.mkdir(parents=True, exist_ok=True)
    state = openclip_state(load_file(clip / "model.safetensors"))
    if custom_text:
        state = {
            name if name.startswith(("visual.", "logit")) else f"text.{name}": value
            for name, value in state.items()
        }
    if safetensors:
        save_file(state, folder / "open_clip_model.safetensors")
    else:
        torch.save(state, folder / "open_clip_pytorch_model.bin")
    config = openclip_config(json.loads((clip / "config.json").read_text()), custom_text=custom_text)
    for section in ("vision_cfg", "text_cfg"):
        config["model_cfg"][section] |= changes.pop(section, {})
    config["preprocess_cfg"] |= changes.pop("preprocess_cfg", {})
    config["model_cfg"] |= changes
    _write_json(folder / "open_clip_config.json", config)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (folder / name).write_bytes((clip / name).read_bytes())
    return folder


def openclip_config(config: Mapping[str, Any], *, custom_text: bool = False) -> dict[str, Any]:
    """Return ``open_clip_config.json`` for transformers' configuration of a CLIP."""
    text, image = config["text_config"], config["vision_config"]
    model: dict[str, Any] = {
        "embed_dim": config["projection_dim"],
        "vision_cfg": {
            "image_size": image["image_size"], "layers": image["num_hidden_layers"],
            "width": image["hidden_size"], "patch_size": image["patch_size"],
            "head_width": image["hidden_size"] // image["num_attention_heads"],
            "mlp_ratio": image["intermediate_size"] / image["hidden_size"],
        },
        "text_cfg": {
            "context_length": text["max_position_embeddings"], "vocab_size": text["vocab_size"],
            "width": text["hidden_size"], "heads": text["num_attention_heads"],
            "layers": text["num_hidden_layers"],
            "mlp_ratio": text["intermediate_size"] / text["hidden_size"],
        },
    }  # fmt: skip
    if image["hidden_act"] == "quick_gelu":
        model["quick_gelu"] = True
    if custom_text:
        model["custom_text"] = True
    pixels = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "interpolation": "bicubic"}
    return {"model_cfg": model, "preprocess_cfg": {**pixels, "resize_mode": "shortest"}}


def openclip_state(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return transformers' CLIP weights under OpenCLIP's names."""
    names = {
        "text_model.embeddings.token_embedding.": "token_embedding.",
        "text_model.embeddings.position_embedding.weight": "positional_embedding",
        "text_model.final_layer_norm.": "ln_final.",
        "text_projection.weight": "text_projection",
        "text_model.encoder.layers.": "transformer.resblocks.",
        "vision_model.embeddings.class_embedding": "visual.class_embedding",
        "vision_model.embeddings.patch_embedding.": "visual.conv1.",
        "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
        "vision_model.pre_layrnorm.": "visual.ln_pre.",
        "vision_model.post_layernorm.": "visual.ln_post.",
        "visual_projection.weight": "visual.proj",
        "vision_model.encoder.layers.": "visual.transformer.resblocks.",
        "self_attn.out_proj.": "attn.out_proj.",
        "layer_norm1.": "ln_1.",
        "layer_norm2.": "ln_2.",
        "mlp.fc1.": "mlp.c_fc.",
        "mlp.fc2.": "mlp.c_proj.",
    }
    renamed: dict[str, torch.Tensor] = {}
    for name, value in state.items():
        other = name
        for ours, theirs in names.items():
            other = other.replace(ours, theirs)
        is_projection = other in ("text_projection", "visual.proj")
        renamed[other] = value.T.contiguous() if is_projection else value
    for name in [name for name in renamed if ".self_attn.q_proj." in name]:
        thirds = [renamed.pop(name.replace("q_proj", f"{letter}_proj")) for letter in "qkv"]
        renamed[name.replace("self_attn.q_proj.", "attn.in_proj_")] = torch.cat(thirds)
    return renamed


def spread(model: torch.nn.Module, factor: float) -> torch.nn.Module:
    """Scale the initial weights up, so that different inputs give different vectors.

    By less than for the other families: their residual streams grow so far that float32 itself loses the
    fifth digit.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(factor)
    return model.eval()


def _text_settings(folder: Path, family: str) -> dict[str, Any]:
    """Write the family's kind of tokenizer; return the text tower's configuration."""
    sizes = {**_SMALL, "hidden_size": 32, "max_position_embeddings": 16}
    if family in ("clip", "aimv2"):
        vocabulary = _write_bpe(folder)
        end = len(vocabulary) - 1
        text = {**sizes, "vocab_size": len(vocabulary), "eos_token_id": end}
        if family == "clip":
            text |= {"projection_dim": 24, "bos_token_id": end - 1, "pad_token_id": end}
        return text
    if family == "chinese_clip":
        # The real folders' position table is longer than the texts that the family was trained with.
        return {**sizes, **write_tokenizer(folder, "bert"), "max_position_embeddings": 64}
    text = {**sizes, **write_tokenizer(folder, "xlm-roberta")}
    if family == "altclip":
        return {**text, "project_dim": 28, "max_position_embeddings": 18, "type_vocab_size": 1}
    return {**text, "projection_dim": 24}


def _save_siglip(folder: Path, kind: str, text: dict[str, Any]) -> None:
    import transformers

    vision = {key: value for key, value in _VISION.items() if kind == "Siglip" or key != "image_size"}
    if kind == "Siglip2":
        vision["num_patches"] = 16
    text = {**_SMALL, "hidden_size": 32, "bos_token_id": 2, "eos_token_id": 1, **text, "projection_size": 40}
    config = getattr(transformers, f"{kind}Config")(text_config=text, vision_config=vision)
    torch.manual_seed(SEED)
    # SigLIP starts with larger weights than the others.
    _save(spread(getattr(transformers, f"{kind}Model")(config), 2), folder)


def _save(model: Any, folder: Path, *, safetensors: bool = True) -> None:
    if safetensors:
        model.save_pretrained(folder)
    else:
        model.config.save_pretrained(folder)
        torch.save(model.state_dict(), folder / "pytorch_model.bin")


def _half() -> dict[str, Any]:
    steps = {"do_resize": True, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True}
    return {**steps, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}


def _write_squeezing_processor(folder: Path, kind: str, *, resample: int) -> None:
    size = {"size": {"height": SIDE, "width": SIDE}, "resample": resample}
    _write_json(folder / "preprocessor_config.json", {"image_processor_type": kind, **size, **_half()})


def _write_processor(folder: Path, *, exact: bool) -> None:
    crop: dict[str, Any] = {"do_center_crop": True, "crop_size": {"height": SIDE, "width": SIDE}}
    settings = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": SIDE}, **crop}
    if exact:
        size = {"height": SIDE, "width": SIDE}
        settings = {
            "image_processor_type": "ChineseCLIPImageProcessor",
            "size": size,
            "do_center_crop": False,
        }
    means = {"image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28]}
    _write_json(folder / "preprocessor_config.json", {**_half(), **settings, "resample": 3, **means})


def _write_sentencepiece(folder: Path, limit: int) -> int:
    import io

    import sentencepiece

    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_TEXTS * 4), model_writer=written, vocab_size=60, model_type="unigram",
        character_coverage=1.0, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, pad_piece="<pad>",
        hard_vocab_limit=False, minloglevel=2, normalization_rule_name="identity",
    )  # fmt: skip
    (folder / "spiece.model").write_bytes(written.getvalue())
    settings = {"tokenizer_class": "SiglipTokenizer", "model_max_length": limit, "do_lower_case": True}
    tokens = {"eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"}
    _write_json(folder / "tokenizer_config.json", {**settings, **tokens, "model_input_names": ["input_ids"]})
    return int(sentencepiece.SentencePieceProcessor(model_proto=written.getvalue()).get_piece_size())


def _write_gemma(folder: Path) -> int:
    """Save a tokenizer.json with Gemma's normaliser and byte fallback; returns the size of the vocabulary."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    letters = [chr(code) for code in (*range(ord("a"), ord("z") + 1), *range(ord("A"), ord("Z") + 1))]
    pieces = ["▁", *letters, *"0123456789.,!?", "th", "the", "ca", "cat", "▁c", "▁ca", "▁cat"]
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary = {token: i for i, token in enumerate([*tokens, *pieces])}
    merges = [("t", "h"), ("th", "e"), ("c", "a"), ("ca", "t"), ("▁", "c"), ("▁", "ca"), ("▁", "cat")]
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, fuse_unk=True, unk_token="<unk>", byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", vocabulary["<eos>"])]
    )
    tokenizer.add_special_tokens(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    roles = {f"{role}_token": f"<{role}>" for role in ("pad", "eos", "bos", "unk", "mask")}
    sides = {"padding_side": "right", "add_bos_token": False, "add_eos_token": True}
    settings = {"tokenizer_class": "GemmaTokenizer", "model_input_names": ["input_ids"], **sides}
    _write_json(folder / "tokenizer_config.json", {**settings, **roles})
    return len(vocabulary)
