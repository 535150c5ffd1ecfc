"""Tiny text encoders of every family, with real tokenizer.json files, and sentence-transformers folders."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from tests.kit.tiny_checkpoints import LETTERS, SEED, WORDS, _spread, _write_json

FAMILIES = (
    "bert", "roberta", "xlm-roberta", "camembert", "deberta", "deberta-v2", "distilbert", "electra",
    "modernbert", "mpnet",
)  # fmt: skip
#: Positions of every tiny encoder: 48 tokens, and two more where counting starts behind the padding token.
POSITIONS = 48
_BERT_SPECIAL = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
_ROBERTA_SPECIAL = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"}
_WORDPIECE = {"bert": "BertTokenizer", "distilbert": "DistilBertTokenizer", "electra": "ElectraTokenizer"}
_PLAIN_WORDS = [word for word in WORDS if not word.startswith("##")]
_MERGES = [("c", "a"), ("ca", "t"), ("Ġ", "t"), ("Ġt", "h"), ("Ġth", "e"), ("o", "n"), ("a", "t"), ("Ġ", "c")]


def make_tiny_encoder(
    folder: Path, family: str, *, head: str | None = None, safetensors: bool = True, **changes: Any
) -> Path:
    """Save an encoder of two layers and width 32 with its tokenizer; returns `folder`.

    Parameters
    ----------
    family : str
        One of ``FAMILIES``.
    head : str or None
        Save it as a task's network would be: "SequenceClassification" or "MaskedLM".
    safetensors : bool
        False saves ``pytorch_model.bin``.
    **changes
        Fields of the configuration.
    """
    import transformers
    from transformers import AutoConfig, AutoModel

    folder.mkdir(parents=True, exist_ok=True)
    special = write_tokenizer(folder, family)
    config = AutoConfig.for_model(family, **{**_sizes(family), **special, **changes})
    torch.manual_seed(SEED)
    auto = getattr(transformers, f"AutoModelFor{head}") if head else AutoModel
    model = _spread(auto.from_config(config))
    if safetensors:
        model.save_pretrained(folder)
    else:
        model.config.save_pretrained(folder)
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return folder


def write_tokenizer(folder: Path, family: str) -> dict[str, int]:
    """Save a tokenizer of the family's own kind; returns the configuration's fields about it."""
    if family in _WORDPIECE:
        tokenizer, special, name = _wordpiece(), _BERT_SPECIAL, _WORDPIECE[family]
    elif family == "mpnet":
        tokenizer, special, name = _wordpiece(_ROBERTA_SPECIAL), _ROBERTA_SPECIAL, "MPNetTokenizer"
    elif family == "roberta":
        tokenizer, special, name = _byte_level(_ROBERTA_SPECIAL), _ROBERTA_SPECIAL, "RobertaTokenizer"
    elif family == "deberta":
        tokenizer, special, name = _byte_level(_BERT_SPECIAL), _BERT_SPECIAL, "DebertaTokenizer"
    elif family == "modernbert":
        tokenizer, special, name = _byte_level(_BERT_SPECIAL), _BERT_SPECIAL, "PreTrainedTokenizerFast"
    elif family == "deberta-v2":
        tokenizer, special, name = _unigram(_BERT_SPECIAL), _BERT_SPECIAL, "DebertaV2Tokenizer"
    else:
        name = {"xlm-roberta": "XLMRobertaTokenizer", "camembert": "CamembertTokenizer"}[family]
        tokenizer, special = _unigram(_ROBERTA_SPECIAL), _ROBERTA_SPECIAL
    _close_texts(tokenizer, special)
    tokenizer.save(str(folder / "tokenizer.json"))
    roles: dict[str, Any] = {f"{role}_token": token for role, token in special.items()}
    roles |= {"bos_token": special["cls"], "eos_token": special["sep"]}
    _write_json(
        folder / "tokenizer_config.json", {"tokenizer_class": name, "model_max_length": POSITIONS, **roles}
    )
    ids = {
        f"{role}_token_id": tokenizer.token_to_id(roles[f"{role}_token"]) for role in ("pad", "bos", "eos")
    }
    if family == "modernbert":
        ids |= {"cls_token_id": ids["bos_token_id"], "sep_token_id": ids["eos_token_id"]}
    return {"vocab_size": tokenizer.get_vocab_size(), **ids}


def make_tiny_pipeline(
    folder: Path,
    family: str = "bert",
    *,
    pooling: Sequence[str] = ("mean",),
    steps: Sequence[str] = ("Normalize",),
    encoder_path: str = "",
    prompt: str | None = None,
    include_prompt: bool = True,
    max_tokens: int | None = 16,
    lower_case: bool = False,
) -> Path:
    """Save a folder as sentence-transformers 2 wrote it: flags for the pooling, pickled weights of steps.

    Parameters
    ----------
    pooling : sequence of str
        Names of the current spelling; written as the older flags.
    steps : sequence of str
        "Dense" (to width 24, Tanh), "LayerNorm" and "Normalize".
    encoder_path : str
        Folder of the encoder inside `folder`, such as "0_Transformer".
    prompt : str or None
        Default prompt.
    """
    encoder = make_tiny_encoder(folder / encoder_path, family)
    _write_json(
        encoder / "sentence_bert_config.json", {"max_seq_length": max_tokens, "do_lower_case": lower_case}
    )
    width = 32 * len(pooling)
    modules = [("Transformer", encoder_path), ("Pooling", "1_Pooling")]
    flags = {_FLAGS[name]: name in pooling for name in _FLAGS}
    pooled = {"word_embedding_dimension": 32, **flags, "include_prompt": include_prompt}
    _write_step(folder / "1_Pooling", pooled)
    torch.manual_seed(SEED)
    for number, kind in enumerate(steps, start=2):
        path = f"{number}_{kind}"
        modules.append((kind, path))
        if kind == "Dense":
            activation = "torch.nn.modules.activation.Tanh"
            sizes = {"in_features": width, "out_features": 24, "bias": True}
            layer = torch.nn.Linear(width, 24)
            state = {f"linear.{name}": value for name, value in layer.state_dict().items()}
            _write_step(folder / path, {**sizes, "activation_function": activation}, state)
            width = 24
        elif kind == "LayerNorm":
            state = {"norm.weight": torch.rand(width) + 0.5, "norm.bias": torch.rand(width)}
            _write_step(folder / path, {"dimension": width}, state)
    _write_json(
        folder / "modules.json",
        [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (kind, path) in enumerate(modules)
        ],
    )
    general = {"prompts": {"topic": prompt}, "default_prompt_name": "topic"} if prompt else {"prompts": {}}
    _write_json(folder / "config_sentence_transformers.json", general)
    return folder


def rename_tensors(folder: Path, renames: dict[str, str]) -> None:
    """Replace parts of the tensors' names in the folder's model.safetensors, as older files spell them."""
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    for old, new in renames.items():
        state = {name.replace(old, new): value for name, value in state.items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def change_json(file: Path, **changes: Any) -> None:
    """Set entries of a JSON file; None removes one."""
    settings = {**json.loads(file.read_text(encoding="utf-8")), **changes}
    _write_json(file, {key: value for key, value in settings.items() if value is not None})


_FLAGS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


def _write_step(folder: Path, config: dict[str, Any], state: dict[str, torch.Tensor] | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "config.json", config)
    if state:
        torch.save(state, folder / "pytorch_model.bin")


def _sizes(family: str) -> dict[str, Any]:
    """Return the fields that make the network tiny, and those that make it the published kind."""
    behind_padding = family in ("roberta", "xlm-roberta", "camembert", "mpnet")
    sizes: dict[str, Any] = {"max_position_embeddings": POSITIONS + (2 if behind_padding else 0)}
    if family == "distilbert":
        return {**sizes, "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
    sizes |= {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    if family in ("roberta", "xlm-roberta", "camembert"):
        sizes["type_vocab_size"] = 1
    if family == "electra":
        sizes["embedding_size"] = 16
    if family == "modernbert":
        # Every second layer sees 8 tokens to either side only.
        sizes |= {"local_attention": 16, "global_attn_every_n_layers": 2}
    if family == "deberta":  # as deberta-large-mnli
        sizes |= {"type_vocab_size": 0, "relative_attention": True, "position_biased_input": False}
        sizes |= {"pos_att_type": "c2p|p2c", "max_relative_positions": -1}
    if family == "deberta-v2":  # as deberta-v3-base
        sizes |= {"type_vocab_size": 0, "relative_attention": True, "position_biased_input": False}
        sizes |= {"pos_att_type": "p2c|c2p", "max_relative_positions": -1, "position_buckets": 8}
        sizes |= {"norm_rel_ebd": "layer_norm", "share_att_key": True}
    return sizes


def _wordpiece(special: dict[str, str] = _BERT_SPECIAL) -> Tokenizer:
    vocabulary = {token: i for i, token in enumerate([*special.values(), *WORDS])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=special["unk"]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _byte_level(special: dict[str, str]) -> Tokenizer:
    tokens = [*special.values(), *sorted(pre_tokenizers.ByteLevel.alphabet()), *(a + b for a, b in _MERGES)]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, _MERGES, unk_token=special["unk"]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def _unigram(special: dict[str, str]) -> Tokenizer:
    pieces = [(f"▁{word}", -3.0) for word in _PLAIN_WORDS] + [("▁", -4.0)]
    pieces += [
        (letter, -6.0) for letter in dict.fromkeys([*LETTERS, *LETTERS.upper(), *".,!?:我你好天气مرحبا"])
    ]
    ends = {token for role, token in special.items() if role != "mask"}
    vocabulary = [(token, 0.0) for token in special.values() if token in ends] + pieces
    vocabulary.append((special["mask"], 0.0))
    unknown = [token for token, _ in vocabulary].index(special["unk"])
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=unknown, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    return tokenizer


def _close_texts(tokenizer: Tokenizer, special: dict[str, str]) -> None:
    """Register the special tokens and put every text between the first and the closing one."""
    tokenizer.add_special_tokens(list(special.values()))
    first, last = special["cls"], special["sep"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} $B {last}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (first, last)],
    )
