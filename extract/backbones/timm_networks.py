"""timm networks: from a model's name or config to its card's facts, and to a network with checked weights.

Needs the extra ``timm``. Upstream: https://github.com/huggingface/pytorch-image-models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from extract.backbones.token_layouts import TokenLayout
from extract.cards import INTERPOLATIONS
from extract.registry import BackboneNameError
from extract.weights import read_json

#: Arguments of ``timm.create_model`` that a config file may not set: they say where to read from.
_NOT_FROM_FILES = {
    "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir", "num_classes",
    "scriptable", "exportable", "no_jit",
}  # fmt: skip


@dataclass(frozen=True)
class TimmSpec:
    """Which network of timm, and how it was trained.

    Attributes
    ----------
    architecture : str
        Name without a tag, such as "resnet50".
    settings : Mapping
        timm's pretrained_cfg: input size, filter, mean, std, licence, where the weights are.
    arguments : Mapping
        Arguments of the network's constructor.
    """

    architecture: str
    settings: Mapping[str, Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TimmShape:
    """What the network gives: readouts and widths, token layout, and its number of weights."""

    readouts: dict[str, int]
    layout: TokenLayout
    parameters: int


def import_timm(backbone: str) -> Any:
    """Return the module timm.

    Raises
    ------
    ModuleNotFoundError
        If it is not installed; the message names the extra.
    """
    try:
        import timm
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"Backbone '{backbone}' needs package 'timm', which is not installed. Install it with: "
            "pip install -e '.[timm]' in the folder of embedonce.",
            name=error.name,
        ) from error
    return timm


def spec_of_name(name: str) -> TimmSpec:
    """Return the network of a timm name such as "resnet50" or "resnet50.a1_in1k".

    Raises
    ------
    ModuleNotFoundError
        If timm is not installed.
    BackboneNameError
        If timm does not know the name or its tag; near matches are named.
    """
    timm = import_timm(f"timm:{name}")
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        from difflib import get_close_matches

        near = get_close_matches(architecture, timm.list_models(), n=5, cutoff=0.6)
        known = f"Near matches: {', '.join(near)}" if near else "timm.list_models() lists the known ones"
        raise BackboneNameError(f"Backbone 'timm:{name}' is not known to timm {timm.__version__}. {known}.")
    trained = timm.list_pretrained(f"{architecture}.*")
    if tag and name not in trained:
        offered = f"{', '.join(trained[:5])}{' ...' if len(trained) > 5 else ''}" if trained else "none"
        raise BackboneNameError(
            f"Backbone 'timm:{name}' has a tag that timm {timm.__version__} does not know; weights of "
            f"'{architecture}' are: {offered}. Write one of them, or leave the tag out."
        )
    settings = timm.get_pretrained_cfg(name)
    return TimmSpec(architecture, settings.to_dict() if settings else {})


def spec_of_folder(folder: Path) -> TimmSpec:
    """Read the network from config.json of a folder in timm's hub format.

    Raises
    ------
    ValueError
        If timm does not know the architecture.
    """
    config = read_json(folder / "config.json")
    timm = import_timm(str(config.get("architecture")))
    architecture = str(config.get("architecture")).partition(".")[0]
    if not timm.is_model(architecture):
        raise ValueError(
            f"Weights in '{folder}' are of architecture '{architecture}', which timm {timm.__version__} "
            "does not know. Install a newer timm: pip install -U timm."
        )
    settings = dict(config.get("pretrained_cfg") or config)  # older files are one flat table
    if "num_classes" in config:
        settings["num_classes"] = config["num_classes"]
    arguments = {
        name: value for name, value in config.get("model_args", {}).items() if name not in _NOT_FROM_FILES
    }
    return TimmSpec(architecture, settings, arguments)


def image_fields(spec: TimmSpec) -> dict[str, Any]:
    """Return a card's image fields: those of ``timm.data.create_transform(is_training=False)``.

    Raises
    ------
    ValueError
        If the transform is not one that a :class:`PixelRecipe` does; all faults are named.
    """
    timm = import_timm(spec.architecture)
    # One setting must be there for timm to take its defaults for the rest.
    data = timm.data.resolve_data_config(pretrained_cfg=dict(spec.settings) or {"num_classes": 1000})
    channels, height, width = data["input_size"]
    faults = []
    if channels != 3 or height != width:
        faults.append(f"input_size is {tuple(data['input_size'])}, supported are three channels and a square")
    if data["crop_mode"] not in ("center", "squash"):
        faults.append(f"crop_mode is '{data['crop_mode']}', supported are center and squash")
    if data["crop_pct"] > 1:
        faults.append(f"crop_pct is {data['crop_pct']}, which adds a border; supported is at most 1")
    if data["interpolation"] not in INTERPOLATIONS:
        faults.append(
            f"interpolation is '{data['interpolation']}', supported are {', '.join(INTERPOLATIONS)}"
        )
    if faults:
        raise ValueError(
            f"The preprocessing of timm's '{spec.architecture}' is not supported: {'; '.join(faults)}. "
            "Make its vectors elsewhere and use 'embedonce import'."
        )
    return {
        "image_size": height,
        "resize": math.floor(height / data["crop_pct"]),
        "resize_mode": "exact" if data["crop_mode"] == "squash" else "shorter",
        "interpolation": data["interpolation"],
        "mean": tuple(data["mean"]),
        "std": tuple(data["std"]),
    }


def timm_shape(spec: TimmSpec) -> TimmShape:
    """Find what a network gives by running it without weights.

    Raises
    ------
    ValueError
        If the network does not run on pictures of its input size.
    """
    import torch

    from extract.backbones.loading import one_line

    size = image_fields(spec)["image_size"]
    try:
        with torch.device("meta"), torch.inference_mode():
            network = _create(spec, num_classes=0).eval()
            states = network.forward_features(torch.empty(1, 3, size, size))
            pooled = network.forward_head(states, pre_logits=True)
    except (RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError) as error:
        raise ValueError(
            f"timm's '{spec.architecture}' cannot be used: without weights it fails with {one_line(error)}. "
            "Choose another network, or make its vectors elsewhere and use 'embedonce import'."
        ) from error
    if pooled.ndim != 2:
        raise ValueError(
            f"timm's '{spec.architecture}' cannot be used: its pooled features have shape "
            f"{tuple(pooled.shape[1:])}, not one vector. Choose another network."
        )
    layout = _layout(network, states)
    readouts = {name: pooled.shape[1] if name == "pooled" else states.shape[2] for name in layout.readouts}
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    return TimmShape(readouts=readouts, layout=layout, parameters=n_parameters)


def build_timm(spec: TimmSpec, state: Mapping[str, Any]) -> Any:
    """Build the network without its classifier from `state`.

    Raises
    ------
    ValueError
        If a tensor of the network is missing, has another shape, or is of another network.
    """
    import sys

    from extract.backbones.loading import one_line

    network = _create(spec, num_classes=0)
    wanted = network.state_dict()
    if not set(wanted) <= set(state):
        # Some networks are published in the layout of the code that they were trained with.
        convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
        state = convert(dict(state), network) if convert else state
    missing = sorted(set(wanted) - set(state))
    if missing:
        raise ValueError(
            f"lack {len(missing)} tensors of timm's '{spec.architecture}' ({', '.join(missing[:5])}), "
            "which would be random numbers"
        )
    foreign = sorted(set(state) - set(wanted) - _with_classifier(spec))
    if foreign:
        raise ValueError(
            f"hold {len(foreign)} tensors that timm's '{spec.architecture}' has not "
            f"({', '.join(foreign[:5])})"
        )
    try:
        network.load_state_dict({name: state[name] for name in wanted}, strict=True)
    except RuntimeError as error:
        raise ValueError(f"do not fit timm's '{spec.architecture}' ({one_line(error)})") from error
    return network


def _create(spec: TimmSpec, *, num_classes: int) -> Any:
    import timm

    return timm.create_model(
        spec.architecture,
        pretrained=False,
        pretrained_cfg=dict(spec.settings) or None,
        num_classes=num_classes,
        **spec.arguments,
    )


def _with_classifier(spec: TimmSpec) -> set[str]:
    """Return the tensor names of the network as it was trained, classifier included."""
    import torch

    n_classes = spec.settings.get("num_classes") or 1000
    with torch.device("meta"):
        return set(_create(spec, num_classes=n_classes).state_dict())


def _layout(network: Any, states: Any) -> TokenLayout:
    """Tell class token and patches: vision transformers of timm say how many tokens come first."""
    n_prefix = getattr(network, "num_prefix_tokens", None)
    if n_prefix is None or getattr(states, "ndim", 0) != 3:
        return TokenLayout(is_maps=getattr(states, "ndim", 0) == 4)
    has_class_token = n_prefix > 0 and getattr(network, "cls_token", None) is not None
    return TokenLayout(n_prefix=n_prefix, has_class_token=has_class_token, has_patches=True)
