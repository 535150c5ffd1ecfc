"""Tiny joint checkpoints: FLAVA, BLIP and the Qwen vision-language models, from a config and a fixed seed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from tests.kit.tiny_checkpoints import SEED, SPECIAL, WORDS

_CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
_CLIP_STD = [0.26862954, 0.26130258, 0.27577711]
#: Control tokens of the Qwen tokenizers, in their order.
QWEN_SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
    "<|video_pad|>",
]  # fmt: skip
_IMAGE_MARK = "<|vision_start|><|image_pad|><|vision_end|>"
#: Qwen2-VL's own template, without the branches for video and numbered pictures. Lines are joined without
#: breaks.
QWEN2_TEMPLATE = "".join([
    "{% for message in messages %}",
    "{% if loop.first and message['role'] != 'system' %}",
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}",
    "<|im_start|>{{ message['role'] }}\n",
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}",
    "{% for content in message['content'] %}",
    "{% if content['type'] == 'image' %}" + _IMAGE_MARK,
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}",
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}",
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
])  # fmt: skip
#: Qwen3-VL's has no system message of its own.
QWEN3_TEMPLATE = QWEN2_TEMPLATE.replace(
    "{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}",
    "",
)


def make_tiny_flava(folder: Path, *, whole: bool = True, safetensors: bool = True) -> Path:
    """Save a FLAVA of two layers a tower, with its codebook if `whole`; returns `folder`."""
    from transformers import FlavaConfig, FlavaForPreTraining, FlavaModel

    folder.mkdir(parents=True, exist_ok=True)
    _write_wordpiece(folder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = FlavaConfig(
        text_config={**sizes, "vocab_size": len(SPECIAL) + len(WORDS), "max_position_embeddings": 48},
        image_config={**sizes, "image_size": 32, "patch_size": 8, "vocab_size": 16},
        multimodal_config=sizes,
        image_codebook_config={"hidden_size": 8, "num_blocks_per_group": 1, "vocab_size": 16},
        hidden_size=32,
        projection_dim=24,
    )
    torch.manual_seed(SEED)
    _save(_spread((FlavaForPreTraining if whole else FlavaModel)(config)), folder, safetensors=safetensors)
    # As in facebook/flava-full: the old class name, and numbers for squares.
    settings = {"feature_extractor_type": "FlavaFeatureExtractor", "size": 32, "crop_size": 32, "resample": 3}
    _write_json(
        folder / "preprocessor_config.json",
        {**settings, "do_resize": True, "do_center_crop": True, "do_normalize": True}
        | {"image_mean": _CLIP_MEAN, "image_std": _CLIP_STD},
    )
    return folder


def make_tiny_blip(folder: Path, *, kind: str = "BlipForImageTextRetrieval") -> Path:
    """Save a BLIP of two layers a tower with the head that `kind` names; returns `folder`."""
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    _write_wordpiece(folder)
    words = len(SPECIAL) + len(WORDS)  # then come [DEC] and [ENC], which the tokenizer does not know
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    text = {**sizes, "encoder_hidden_size": 40, "vocab_size": words + 2, "max_position_embeddings": 48}
    text |= {"bos_token_id": words, "sep_token_id": SPECIAL.index("[SEP]"), "pad_token_id": 0}
    config = transformers.BlipConfig(
        text_config=text,
        # BLIP's own default range is 1e-10: every picture would get one vector.
        vision_config={
            **sizes,
            "hidden_size": 40,
            "image_size": 32,
            "patch_size": 8,
            "initializer_range": 0.02,
        },
        image_text_hidden_size=24,
    )
    torch.manual_seed(SEED)
    _save(_spread(getattr(transformers, kind)(config)), folder)
    settings = {"image_processor_type": "BlipImageProcessor", "size": {"height": 32, "width": 32}}
    _write_json(
        folder / "preprocessor_config.json",
        {**settings, "resample": 3, "image_mean": _CLIP_MEAN, "image_std": _CLIP_STD},
    )
    return folder


def make_tiny_qwen(
    folder: Path, *, kind: str = "qwen2_vl", template_file: str = "chat_template.json"
) -> Path:
    """Save a vision-language model of two layers; returns `folder`.

    Parameters
    ----------
    folder : Path
    kind : {"qwen2_vl", "qwen2_5_vl", "qwen3_vl"}
    template_file : {"chat_template.json", "chat_template.jinja", "tokenizer_config.json"}
        Where the chat template is written; the hub's repositories use all three.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = _write_qwen_tokenizer(
        folder, QWEN3_TEMPLATE if kind == "qwen3_vl" else QWEN2_TEMPLATE, template_file
    )
    torch.manual_seed(SEED)
    _save(_spread(_qwen(kind, vocabulary)), folder)
    if kind == "qwen3_vl":
        settings: dict[str, Any] = {
            "image_processor_type": "Qwen2VLImageProcessorFast", "processor_class": "Qwen3VLProcessor",
            "size": {"shortest_edge": 32 * 32 * 4, "longest_edge": 32 * 32 * 4096}, "patch_size": 16,
            "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
        }  # fmt: skip
    else:
        settings = {
            "image_processor_type": "Qwen2VLImageProcessor", "min_pixels": 28 * 28 * 4,
            "max_pixels": 28 * 28 * 16384, "patch_size": 14, "image_mean": _CLIP_MEAN, "image_std": _CLIP_STD,
            "processor_class": "Qwen2VLProcessor" if kind == "qwen2_vl" else "Qwen2_5_VLProcessor",
        }  # fmt: skip
    _write_json(folder / "preprocessor_config.json", {**settings, "temporal_patch_size": 2, "merge_size": 2})
    return folder


def _qwen(kind: str, vocabulary: dict[str, int]) -> torch.nn.Module:
    import transformers as t

    text = {
        "vocab_size": len(vocabulary), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096,
        "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0},
        "pad_token_id": vocabulary["<|endoftext|>"], "bos_token_id": None,
        "eos_token_id": vocabulary["<|im_end|>"],
    }  # fmt: skip
    ids = {
        "image_token_id": vocabulary["<|image_pad|>"], "video_token_id": vocabulary["<|video_pad|>"],
        "vision_start_token_id": vocabulary["<|vision_start|>"],
        "vision_end_token_id": vocabulary["<|vision_end|>"], "tie_word_embeddings": True,
    }  # fmt: skip
    if kind == "qwen2_vl":
        vision: dict[str, Any] = {"depth": 2, "embed_dim": 16, "hidden_size": 32, "num_heads": 2}
        return t.Qwen2VLForConditionalGeneration(
            t.Qwen2VLConfig(text_config=text, vision_config=vision, **ids)
        )
    if kind == "qwen2_5_vl":
        vision = {"depth": 2, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2}
        vision |= {"out_hidden_size": 32, "window_size": 56, "fullatt_block_indexes": [1]}
        return t.Qwen2_5_VLForConditionalGeneration(
            t.Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids)
        )
    text["head_dim"] = 8
    text["rope_parameters"] = {**text["rope_parameters"], "mrope_interleaved": True}
    vision = {"depth": 2, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "out_hidden_size": 32}
    vision |= {"num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
    return t.Qwen3VLForConditionalGeneration(t.Qwen3VLConfig(text_config=text, vision_config=vision, **ids))


def _write_qwen_tokenizer(folder: Path, template: str, template_file: str) -> dict[str, int]:
    """Write a byte-level BPE tokenizer, split by Qwen's rule, with control tokens; returns its vocabulary."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
    from tokenizers.models import BPE

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("t", "h"), ("th", "e"), ("c", "a"), ("ca", "t"), ("d", "o"), ("do", "g"), ("Ġ", "the")]
    merges += [("u", "s"), ("e", "r"), ("Ċ", "Ċ")]
    vocabulary = {token: i for i, token in enumerate([*letters, *(a + b for a, b in merges)])}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=merges))
    tokenizer.normalizer = normalizers.NFC()
    rule = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
        r"\s+(?!\S)|\s+"
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(rule), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in QWEN_SPECIAL]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    settings |= {"model_max_length": 32768, "additional_special_tokens": QWEN_SPECIAL[1:]}
    if template_file == "tokenizer_config.json":
        settings["chat_template"] = template
    elif template_file == "chat_template.json":
        _write_json(folder / template_file, {"chat_template": template})
    else:
        (folder / template_file).write_text(template, encoding="utf-8")
    _write_json(folder / "tokenizer_config.json", settings)
    return dict(tokenizer.get_vocab())


def _write_wordpiece(folder: Path) -> None:
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *WORDS]) + "\n", encoding="utf-8")
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 48}
    settings |= {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    _write_json(folder / "tokenizer_config.json", {**settings, "mask_token": "[MASK]"})


def _spread(model: torch.nn.Module) -> torch.nn.Module:
    """Scale the initial weights up and fill zeros: near zero all inputs get nearly one vector."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and not parameter.any():
                parameter.normal_(std=0.5)  # FLAVA starts its class token and positions at zero
            elif parameter.ndim > 1:
                parameter.mul_(8)
            elif name.endswith("bias"):
                parameter.normal_(std=0.1)
    return model.eval()


def _save(model: Any, folder: Path, *, safetensors: bool = True) -> None:
    if safetensors:
        model.save_pretrained(folder)
        return
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")
