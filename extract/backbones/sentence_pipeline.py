"""Sentence pipelines: what a sentence-transformers folder does after its encoder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from extract.weights import read_json

_LEGACY_POOLING = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True)
class SentencePipeline:
    """The steps around the encoder.

    Attributes
    ----------
    pooling : {"mean", "cls"}
    normalise : bool
        Whether the pooled vector is divided by its L2 norm.
    lower_case : bool
        Whether texts are lower-cased before the tokenizer sees them.
    max_tokens : int or None
        The folder's own limit, special tokens included.
    """

    pooling: str
    normalise: bool
    lower_case: bool
    max_tokens: int | None

    def as_dict(self) -> dict[str, Any]:
        """Return the steps as plain JSON values."""
        return asdict(self)


def read_pipeline(folder: Path) -> SentencePipeline:
    """Read ``modules.json`` and the files that it names.

    Raises
    ------
    ValueError
        If the folder has a step or a setting that would change its vectors and is not supported here: another
        module, another pooling, or a prompt put before every text.
    """
    modules = read_json(folder / "modules.json")
    kinds = [module["type"].rsplit(".", 1)[-1] for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise ValueError(
            f"Folder '{folder}' has the steps {', '.join(kinds)}; supported are Transformer, Pooling "
            "and optionally "
            "Normalize, in this order. Make its vectors elsewhere and use 'embedonce import'."
        )
    if modules[0]["path"]:
        raise ValueError(
            f"Folder '{folder}' keeps its encoder in '{modules[0]['path']}'; supported is the folder itself."
        )
    settings = _optional(folder / "sentence_bert_config.json")
    prompt = _optional(folder / "config_sentence_transformers.json").get("default_prompt_name")
    if prompt is not None:
        raise ValueError(
            f"Folder '{folder}' puts the prompt '{prompt}' before every text, which is not supported. "
            "Make its vectors "
            "elsewhere and use 'embedonce import'."
        )
    return SentencePipeline(
        pooling=_pooling(folder, read_json(folder / modules[1]["path"] / "config.json")),
        normalise=kinds[-1] == "Normalize",
        lower_case=bool(settings.get("do_lower_case")),
        max_tokens=settings.get("max_seq_length"),
    )


def pipeline_files(folder: Path) -> list[Path]:
    """Return the files that :func:`read_pipeline` reads, those that exist."""
    named = [folder / module["path"] / "config.json" for module in read_json(folder / "modules.json")[1:2]]
    rest = ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json")
    return [path for path in (*named, *(folder / name for name in rest)) if path.is_file()]


def _pooling(folder: Path, config: dict[str, Any]) -> str:
    """Return the pooling that the current or the older form of the settings names."""
    named = config.get("pooling_mode")
    modes = (
        [named]
        if isinstance(named, str)
        else named or [m for key, m in _LEGACY_POOLING.items() if config.get(key)]
    )
    if list(modes) not in (["mean"], ["cls"]):
        raise ValueError(
            f"Folder '{folder}' pools by {', '.join(modes) or 'nothing'}; supported are mean and cls. "
            "Make its vectors "
            "elsewhere and use 'embedonce import'."
        )
    return modes[0]


def _optional(path: Path) -> Any:
    return read_json(path) if path.is_file() else {}
