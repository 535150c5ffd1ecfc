"""OpenCLIP's own layout: its configuration and weight names in terms of transformers' CLIP.

OpenCLIP (https://github.com/mlfoundations/open_clip) writes ``open_clip_config.json`` beside its weights. Its
standard towers compute what transformers' CLIP computes, under other names: the three attention matrices are
one, and projections are stored transposed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

#: Keys that give sizes; read below.
_READ = {
    "model_cfg": {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg"},
    "vision_cfg": {"image_size", "layers", "width", "head_width", "mlp_ratio", "patch_size"},
    "text_cfg": {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"},
}
#: Keys that change no vector of the standard towers: training, output format, parts that are not built.
_WITHOUT_EFFECT = {
    "model_cfg": {"custom_text", "init_logit_scale", "init_logit_bias", "nonscalar_logit_scale"},
    "vision_cfg": {
        "patch_dropout", "output_tokens", "attn_pooler_queries", "attn_pooler_heads", "final_ln_after_pool",
        "pos_embed_type", "timm_model_pretrained", "timm_pool", "timm_proj", "timm_proj_bias", "timm_drop",
        "timm_drop_path",
    },
    "text_cfg": {
        "pad_id", "eos_id", "output_tokens", "hf_model_pretrained", "hf_proj_type", "hf_pooler_type",
        "tokenizer_mode",
    },
}  # fmt: skip
#: Values of the standard towers for keys that are off otherwise.
_STANDARD = {"pool_type": {"vision_cfg": "tok", "text_cfg": "argmax"}, "proj_type": {"text_cfg": "linear"}}

_BLOCK = {
    "ln_1": "layer_norm1", "ln_2": "layer_norm2", "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2",
}  # fmt: skip
_WHOLE = {
    "text": {
        "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
        "ln_final.weight": "text_model.final_layer_norm.weight",
        "ln_final.bias": "text_model.final_layer_norm.bias",
        "text_projection": "text_projection.weight",
    },
    "image": {
        "visual.class_embedding": "vision_model.embeddings.class_embedding",
        "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
        "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
        "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
        "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
        "visual.ln_post.weight": "vision_model.post_layernorm.weight",
        "visual.ln_post.bias": "vision_model.post_layernorm.bias",
        "visual.proj": "visual_projection.weight",
    },
}
_TRANSPOSED = ("text_projection", "visual.proj")
_BLOCKS = {"text": ("transformer", "text_model"), "image": ("visual.transformer", "vision_model")}


def unsupported_settings(model: Mapping[str, Any]) -> list[str]:
    """Return the settings of ``model_cfg`` that the standard towers do not have, one line each."""
    faults = []
    for section in ("model_cfg", "vision_cfg", "text_cfg"):
        settings = model if section == "model_cfg" else model.get(section)
        if not isinstance(settings, Mapping):
            faults.append(f"{section} is {settings!r}, not a table")
            continue
        for key, value in settings.items():
            if key in _READ[section] or key in _WITHOUT_EFFECT[section]:
                continue
            standard = _STANDARD.get(key, {}).get(section)
            if value not in (None, False, {}, standard):
                faults.append(f"{section}.{key} is {value!r}")
    image = model.get("vision_cfg")
    if isinstance(image, Mapping):
        faults += [
            f"vision_cfg.{key} is {image[key]!r}, not one number"
            for key in ("layers", "image_size", "patch_size")
            if key in image and not isinstance(image[key], int)
        ]
    return faults


def clip_settings(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of transformers' CLIPConfig for a ``model_cfg`` of standard towers.

    Absent sizes have OpenCLIP's defaults (``CLIPVisionCfg`` and ``CLIPTextCfg`` of its 3.3.0).
    """
    text, image = model["text_cfg"], model["vision_cfg"]
    # The trap: weights trained with one of the two give other vectors under the other, without any error.
    activation = "quick_gelu" if model.get("quick_gelu") else "gelu"
    shared = {"projection_dim": model["embed_dim"], "hidden_act": activation, "layer_norm_eps": 1e-5}
    text_width, image_width = text.get("width", 512), image.get("width", 768)
    vocabulary = text.get("vocab_size", 49408)
    return {
        "projection_dim": model["embed_dim"],
        "text_config": {
            **shared,
            "vocab_size": vocabulary,
            "hidden_size": text_width,
            "intermediate_size": int(text_width * text.get("mlp_ratio", 4.0)),
            "num_hidden_layers": text.get("layers", 12),
            "num_attention_heads": text.get("heads", 8),
            "max_position_embeddings": text.get("context_length", 77),
            # OpenCLIP reads the state at the highest id, which is the closing token.
            "bos_token_id": vocabulary - 2,
            "eos_token_id": vocabulary - 1,
            "pad_token_id": vocabulary - 1,
        },
        "vision_config": {
            **shared,
            "hidden_size": image_width,
            "intermediate_size": int(image_width * image.get("mlp_ratio", 4.0)),
            "num_hidden_layers": image.get("layers", 12),
            "num_attention_heads": image_width // image.get("head_width", 64),
            "image_size": image.get("image_size", 224),
            "patch_size": image.get("patch_size", 16),
        },
    }


def names_of(names: Iterable[str], modality: str) -> list[str]:
    """Return which of OpenCLIP's weight names belong to one tower and its projection."""
    if modality == "image":
        return [name for name in names if name.startswith("visual.")]
    prefixes = ("transformer.", *_WHOLE["text"])
    return [name for name in names if name.removeprefix("text.").startswith(prefixes)]


def renamed(state: Mapping[str, torch.Tensor], modality: str) -> dict[str, torch.Tensor]:
    """Return the weights of one tower under transformers' names.

    Parameters
    ----------
    state : Mapping of str to Tensor
        OpenCLIP's names. ``text.`` before those of the text tower (``custom_text``) is accepted.
    modality : {"text", "image"}

    Raises
    ------
    ValueError
        If a weight belongs to no part of the standard towers; at most five are named.
    """
    weights: dict[str, torch.Tensor] = {}
    unknown = []
    for given in names_of(state, modality):
        name = given.removeprefix("text.")
        tensor = state[given]
        if name in _WHOLE[modality]:
            weights[_WHOLE[modality][name]] = tensor.T.contiguous() if name in _TRANSPOSED else tensor
            continue
        parts = _block_weights(name, tensor, *_BLOCKS[modality])
        unknown += [] if parts else [given]
        weights |= parts
    if unknown:
        raise ValueError(
            f"{len(unknown)} weights belong to no part of OpenCLIP's standard {modality} tower "
            f"({', '.join(unknown[:5])})"
        )
    return weights


def _block_weights(name: str, tensor: torch.Tensor, theirs: str, ours: str) -> dict[str, torch.Tensor]:
    match = re.fullmatch(rf"{re.escape(theirs)}\.resblocks\.(\d+)\.(.+)", name)
    if not match:
        return {}
    layer, rest = f"{ours}.encoder.layers.{match[1]}", match[2]
    joined = re.fullmatch(r"attn\.in_proj_(weight|bias)", rest)
    if joined:
        thirds = zip("qkv", tensor.chunk(3), strict=True)
        return {f"{layer}.self_attn.{letter}_proj.{joined[1]}": third.clone() for letter, third in thirds}
    part, _, kind = rest.rpartition(".")
    return {f"{layer}.{_BLOCK[part]}.{kind}": tensor} if part in _BLOCK else {}
