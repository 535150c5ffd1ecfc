"""Sentence pipelines: what a sentence-transformers folder does before and after its encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from extract.backbones.sentence_settings import (
    dense_settings,
    encoder_faults,
    encoder_settings_file,
    include_prompt,
    layer_norm_settings,
    normalize_settings,
    pooling_modes,
)
from extract.weights import WeightsMissingError, read_json, read_json_list

_SETTINGS_OF = {"Dense": dense_settings, "LayerNorm": layer_norm_settings, "Normalize": normalize_settings}
_GENERAL = "config_sentence_transformers.json"
#: Weight files of a step, in the library's order of preference.
_STEP_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class Step:
    """One step after pooling.

    Attributes
    ----------
    kind : {"Dense", "LayerNorm", "Normalize"}
    path : str
        Its folder inside the model's folder.
    settings : Mapping
        What its config.json says, defaults filled in.
    """

    kind: str
    path: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class SentencePipeline:
    """The steps around the encoder.

    Attributes
    ----------
    encoder : str
        Folder of the encoder inside the model's folder; empty for the folder itself.
    pooling : tuple of str
        Names from ``POOLINGS``; several are joined.
    include_prompt : bool
        Whether the prompt's tokens take part in the pooling.
    prompt : str
        The default prompt, put before every text.
    steps : tuple of Step
        What follows the pooling.
    lower_case : bool
        Whether texts are lower-cased before the tokenizer sees them.
    max_tokens : int or None
        The folder's own limit, special tokens included.
    """

    encoder: str
    pooling: tuple[str, ...]
    include_prompt: bool
    prompt: str
    steps: tuple[Step, ...]
    lower_case: bool
    max_tokens: int | None

    @property
    def ending(self) -> tuple[str, ...]:
        """Pooling and kinds of the steps, such as ("mean", "Normalize")."""
        return (*self.pooling, *(step.kind for step in self.steps))

    def as_dict(self) -> dict[str, Any]:
        """Return what makes the vector, as plain JSON values; where the files lie is left out."""
        plain = asdict(self)
        plain["pooling"] = list(self.pooling)
        plain["steps"] = [{"kind": step.kind, **step.settings} for step in self.steps]
        del plain["encoder"], plain["prompt"]
        return plain

    def width(self, encoder_width: int) -> int:
        """Return the width of the pipeline's vectors.

        Raises
        ------
        ValueError
            If a step takes another width than the one before gives.
        """
        width = encoder_width * len(self.pooling)
        for step in self.steps:
            taken = step.settings.get("in_features", step.settings.get("dimension", width))
            if taken != width:
                raise ValueError(
                    f"Step '{step.path}' ({step.kind}) takes vectors of width {taken}, but the one before "
                    f"gives {width}. Copy the whole folder of the model again."
                )
            width = step.settings.get("out_features", width)
        return width


def read_pipeline(folder: Path) -> SentencePipeline:
    """Read ``modules.json`` and the files that it names.

    Raises
    ------
    ValueError
        If the folder has a step or a setting that would change its vectors and is not supported here; all
        faults of a file are named together.
    WeightsMissingError
        If a file that a step needs is not there.
    """
    modules = _modules(folder)
    encoder = folder / modules[0][1]
    settings_file = encoder_settings_file(encoder)
    settings = read_json(settings_file) if settings_file else {}
    faults = encoder_faults(settings)
    if faults:
        raise ValueError(
            f"Settings '{settings_file}' are not supported: {'; '.join(faults)}. Make the vectors elsewhere "
            "and use 'embedonce import'."
        )
    pooling = folder / modules[1][1] / "config.json"
    return SentencePipeline(
        encoder=modules[0][1],
        pooling=pooling_modes(pooling),
        include_prompt=include_prompt(pooling),
        prompt=_default_prompt(folder),
        steps=tuple(Step(kind, path, _SETTINGS_OF[kind](folder / path)) for kind, path in modules[2:]),
        lower_case=bool(settings.get("do_lower_case")),
        max_tokens=settings.get("max_seq_length"),
    )


def pipeline_files(folder: Path) -> list[Path]:
    """Return the files that :func:`read_pipeline` reads and the weights of its steps, those that exist."""
    pipeline = read_pipeline(folder)
    settings = encoder_settings_file(folder / pipeline.encoder)
    configs = [folder / path / "config.json" for _, path in _modules(folder)[1:]]
    weights = [step_weights(folder, step) for step in pipeline.steps if step.kind != "Normalize"]
    rest = [folder / "modules.json", folder / _GENERAL, *([settings] if settings else [])]
    return [path for path in (*configs, *weights, *rest) if path.is_file()]


def step_weights(folder: Path, step: Step) -> Path:
    """Return the weight file of a step.

    Raises
    ------
    WeightsMissingError
        If there is none.
    """
    for name in _STEP_WEIGHTS:
        if (folder / step.path / name).is_file():
            return folder / step.path / name
    raise WeightsMissingError(
        f"Step '{step.path}' ({step.kind}) of '{folder}' has no weights: expected one of "
        f"{', '.join(_STEP_WEIGHTS)}. Copy the whole folder of the model."
    )


def _modules(folder: Path) -> list[tuple[str, str]]:
    """Return (kind, folder) of every module, checked."""
    file = folder / "modules.json"
    try:
        listed = [(str(module["type"]), str(module["path"])) for module in read_json_list(file)]
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"File '{file}' is not a list of modules, each with a type and a path. Copy the whole folder of "
            "the model again."
        ) from error
    foreign = [kind for kind, _ in listed if not kind.startswith("sentence_transformers.")]
    modules = [(kind.rsplit(".", 1)[-1], path) for kind, path in listed]
    kinds = [kind for kind, _ in modules]
    if foreign or kinds[:2] != ["Transformer", "Pooling"] or not set(kinds[2:]) <= set(_SETTINGS_OF):
        named = ", ".join(foreign or kinds)
        raise ValueError(
            f"Folder '{folder}' has the modules {named}; supported are sentence_transformers' own "
            f"Transformer and Pooling, then any of {', '.join(_SETTINGS_OF)}. Make its vectors elsewhere and "
            "use 'embedonce import'."
        )
    for _, path in modules:
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise ValueError(f"Folder '{folder}' names the module folder '{path}', which lies outside of it.")
    return modules


def _default_prompt(folder: Path) -> str:
    file = folder / _GENERAL
    settings = read_json(file) if file.is_file() else {}
    kind = settings.get("model_type", "SentenceTransformer")
    if kind != "SentenceTransformer":
        raise ValueError(
            f"Folder '{folder}' is a {kind}, which does not make one vector of a text; supported is "
            "SentenceTransformer."
        )
    name, prompts = settings.get("default_prompt_name"), settings.get("prompts") or {}
    if name is None:
        return ""
    if name not in prompts:
        raise ValueError(
            f"Settings '{file}' name the default prompt '{name}', but hold "
            f"{', '.join(prompts) or 'no prompts'}. Add its words to 'prompts' or remove the name."
        )
    return prompts[name] or ""
