"""Sentence settings: the files of sentence-transformers' modules, in the spellings of its versions 1 to 6."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from extract.weights import read_json

#: Activations of a Dense step: classes of torch.nn without arguments that work element by element.
ACTIVATIONS = (
    "ELU", "GELU", "Hardswish", "Hardtanh", "Identity", "LeakyReLU", "Mish", "ReLU", "ReLU6", "SELU", "SiLU",
    "Sigmoid", "Softplus", "Softsign", "Tanh",
)  # fmt: skip
#: The encoder's settings file had the network's name in it once.
_ENCODER_FILES = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
#: Settings of the encoder that change its vectors, and their only supported value.
_ONLY_VALUE: dict[str, Any] = {
    "transformer_task": "feature-extraction",
    "module_output_name": "token_embeddings",
    "query_length": None,
    "document_length": None,
    "query_expansion": None,
    "tokenizer_name_or_path": None,
}
#: Arguments that are handed on to transformers, under their present and former names.
_HANDED_ON = (
    "config_args", "config_kwargs", "model_args", "model_kwargs", "processing_kwargs", "processor_kwargs",
    "tokenizer_args",
)  # fmt: skip
#: Those among them that do not change the vectors, or that are decided here: code is never run from files.
_WITHOUT_EFFECT = {"attn_implementation", "dtype", "torch_dtype", "trust_remote_code"}
_TEXT_MODALITY = {"method": "forward", "method_output_name": "last_hidden_state"}
_POOLING_FLAGS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
#: Poolings, in the order in which the older settings joined them.
POOLINGS = tuple(_POOLING_FLAGS)
_VECTOR = "sentence_embedding"


def encoder_settings_file(folder: Path) -> Path | None:
    """Return the settings file of the encoder in `folder`, if it has one."""
    return next((folder / name for name in _ENCODER_FILES if (folder / name).is_file()), None)


def encoder_faults(settings: dict[str, Any]) -> list[str]:
    """Return which of the encoder's settings would change its vectors and are not supported."""
    faults = [
        f"{key} is {settings[key]!r}, supported is {value!r}"
        for key, value in _ONLY_VALUE.items()
        if settings.get(key, value) != value
    ]
    modalities = settings.get("modality_config", {"text": _TEXT_MODALITY})
    if modalities.get("text") != _TEXT_MODALITY or "message" in modalities:
        faults.append(f"modality_config is {modalities!r}, supported is {{'text': {_TEXT_MODALITY!r}}}")
    for key in _HANDED_ON:
        handed = sorted(set(settings.get(key) or {}) - _WITHOUT_EFFECT)
        faults += [f"{key} sets {', '.join(handed)}"] if handed else []
    return faults


def pooling_modes(file: Path) -> tuple[str, ...]:
    """Return the poolings that the current or the older form of a Pooling module's settings names.

    Raises
    ------
    ValueError
        If it names none, or one that is not known.
    """
    config = read_json(file)
    named = config.get("pooling_mode")
    if named is None:
        named = [pooling for pooling, flag in _POOLING_FLAGS.items() if config.get(flag)]
    modes = (named,) if isinstance(named, str) else tuple(named)
    known = {"word_embedding_dimension", "embedding_dimension", "pooling_mode", "include_prompt"}
    unknown = [mode for mode in modes if mode not in POOLINGS]
    unknown += sorted(set(config) - known - set(_POOLING_FLAGS.values()))
    if unknown or not modes:
        raise ValueError(
            f"Settings '{file}' pool by {', '.join(map(str, unknown)) or 'nothing'}; supported are "
            f"{', '.join(POOLINGS)}. Make the vectors elsewhere and use 'embedonce import'."
        )
    return modes


def include_prompt(file: Path) -> bool:
    """Whether a Pooling module takes the prompt's tokens in."""
    return bool(read_json(file).get("include_prompt", True))


def dense_settings(folder: Path) -> dict[str, Any]:
    """Return the settings of a Dense module, defaults filled in.

    Raises
    ------
    ValueError
        If the activation is not one of ``ACTIVATIONS``, or the module works on tokens.
    """
    config = read_json(folder / "config.json")
    # Without an entry the library takes Tanh.
    activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    package, _, name = activation.rpartition(".")
    faults = _place_faults(config)
    if not package.startswith("torch.nn") or name not in ACTIVATIONS:
        faults.append(
            f"activation_function is '{activation}', supported are torch.nn's {', '.join(ACTIVATIONS)}"
        )
    _refuse(folder, faults)
    return {
        "in_features": _size(folder, config, "in_features"),
        "out_features": _size(folder, config, "out_features"),
        "bias": bool(config.get("bias", True)),
        "activation": name,
        "residual": bool(config.get("use_residual", False)),
    }


def layer_norm_settings(folder: Path) -> dict[str, Any]:
    """Return the settings of a LayerNorm module."""
    return {"dimension": _size(folder, read_json(folder / "config.json"), "dimension")}


def normalize_settings(folder: Path) -> dict[str, Any]:
    """Return the settings of a Normalize module: none. Older folders have no file for it at all.

    Raises
    ------
    ValueError
        If the module works on tokens.
    """
    file = folder / "config.json"
    _refuse(folder, _place_faults(read_json(file)) if file.is_file() else [])
    return {}


def _size(folder: Path, config: dict[str, Any], key: str) -> int:
    size = config.get(key)
    if not isinstance(size, int) or size < 1:
        _refuse(folder, [f"{key} is {size!r}, supported is a positive number"])
    return int(config[key])


def _place_faults(config: dict[str, Any]) -> list[str]:
    """Return what is wrong with where a module takes its input from and puts its output."""
    return [
        f"{key} is {config[key]!r}, supported is '{_VECTOR}'"
        for key in ("module_input_name", "module_output_name")
        if config.get(key) not in (None, _VECTOR)
    ]


def _refuse(folder: Path, faults: list[str]) -> None:
    if faults:
        raise ValueError(
            f"Settings '{folder / 'config.json'}' are not supported: {'; '.join(faults)}. Make the vectors "
            "elsewhere and use 'embedonce import'."
        )
