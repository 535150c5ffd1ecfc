"""timm backbones: every image network of the timm library, by name or from a folder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.backbones.contract import Backbone, folder_source, mismatch
from extract.backbones.timm_networks import (
    TimmShape,
    TimmSpec,
    build_timm,
    image_fields,
    spec_of_folder,
    spec_of_name,
    timm_shape,
)
from extract.cards import Card
from extract.registry import register_family
from extract.weight_sources import GivenFolder, HubSnapshot, WeightSource
from extract.weights import WeightsMissingError, read_state_dict, torch_dtype, transformers_weight_files

if TYPE_CHECKING:
    from extract.backbones.image_towers import TimmTower
    from extract.backbones.pixels import PixelRecipe


class UnpublishedWeights(WeightSource):
    """Weights that no hub repository is known of."""

    def __init__(self, name: str) -> None:
        self._name = name

    def folder(self, *, download: bool = True) -> Path:  # noqa: ARG002
        """Raise WeightsMissingError: only the user can have them."""
        raise WeightsMissingError(
            f"timm knows no hub repository with weights of '{self._name}'. Pass --weights DIR with its "
            "model.safetensors, or choose another network."
        )

    def revision(self) -> None:
        """Return None: there are no files."""


class TimmBackbone(Backbone):
    """A network of timm with its own preprocessing; its classifier is left out.

    Parameters
    ----------
    card : Card
    source : WeightSource
        A folder with model.safetensors or pytorch_model.bin.
    spec : TimmSpec
    """

    def __init__(self, card: Card, source: WeightSource, *, spec: TimmSpec) -> None:
        super().__init__(card, source)
        self._spec = spec

    def preprocessing(self, modality: str) -> dict[str, Any]:
        """Return the image settings. See :meth:`Backbone.preprocessing`."""
        self._check_request(modality, ("pooled",))
        readouts = {"pooled": "features before the classifier (forward_head, pre_logits)"}
        if "cls" in self.card.readouts["image"]:
            readouts["cls"] = "class token of forward_features"
        if "mean" in self.card.readouts["image"]:
            readouts["mean"] = "mean of the patch tokens of forward_features, float32"
        architecture = {"architecture": self._spec.architecture, "arguments": dict(self._spec.arguments)}
        return {**self.recipe.as_dict(), "readouts": readouts, "network": architecture}

    def open_tower(
        self,
        modality: str,
        *,
        readouts: Sequence[str] = ("pooled",),
        device: str = "cpu",
        precision: str = "fp32",
    ) -> TimmTower:
        """Load the network. See :meth:`Backbone.open_tower`."""
        import torch

        from extract.backbones.arithmetic import loading_dtype, place
        from extract.backbones.image_towers import TimmTower

        self._check_request(modality, readouts)
        try:
            network = build_timm(self._spec, read_state_dict(self._weight_file(self._folder)))
        except ValueError as error:
            raise ValueError(
                f"Weights in '{self._folder}' {error}. Pass the weights that the card names "
                f"({self.card.source})."
            ) from error
        network.to(loading_dtype(precision, device))
        if self._shape.layout.is_maps:
            for layer in network.modules():
                if isinstance(layer, torch.nn.Conv2d):  # the format is of four axes; some networks have five
                    layer.to(memory_format=torch.channels_last)
        return TimmTower(
            place(network, precision, device),
            self.recipe,
            readouts=readouts,
            device=device,
            dtype=torch_dtype(precision),
            layout=self._shape.layout,
        )

    @property
    def recipe(self) -> PixelRecipe:
        """How images become the network's input."""
        from extract.backbones.pixels import PixelRecipe

        return PixelRecipe.from_card(self.card, odd_margin="even")

    @cached_property
    def _shape(self) -> TimmShape:
        return timm_shape(self._spec)

    def _weight_file(self, folder: Path) -> Path:
        files = transformers_weight_files(folder)  # timm uses the same names, and never shards
        if len(files) > 1:
            raise ValueError(
                f"Weights in '{folder}' lie in {len(files)} files; timm's are one. Join them into one "
                "model.safetensors."
            )
        return files[0]

    def _files(self, folder: Path) -> list[Path]:
        config = folder / "config.json"
        return [self._weight_file(folder), *([config] if config.is_file() else [])]

    def _mismatches(self, folder: Path) -> list[str]:
        self._weight_file(folder)
        if not (folder / "config.json").is_file():
            return []  # bare weights: every tensor is compared when they are loaded
        found = spec_of_folder(folder)
        faults = mismatch("architecture", self._spec.architecture, found.architecture)
        for name, value in image_fields(found).items():
            faults += mismatch(name, getattr(self.card, name), value)
        return faults


def open_timm(name: str, weights: Path | None) -> Backbone:
    """Open ``timm:NAME``; its weights are those of its hub repository, or a folder's.

    Parameters
    ----------
    name : str
        "timm:" and a name of timm, with or without the tag of its training.
    weights : Path or None

    Raises
    ------
    ModuleNotFoundError
        If timm is not installed.
    ValueError
        If timm does not know the name, or its preprocessing is not supported.
    """
    spec = spec_of_name(name.removeprefix("timm:"))
    repo = spec.settings.get("hf_hub_id")
    source: WeightSource
    if weights is not None:
        source = GivenFolder(Path(weights))
    else:
        source = HubSnapshot(repo, None) if repo else UnpublishedWeights(name)
    return TimmBackbone(_card(name, spec, f"hf:{repo}" if repo else "unknown"), source, spec=spec)


@register_family("timm")
def recognise_timm(name: str, source: WeightSource) -> Backbone:
    """Build a backbone from a folder or repository in timm's hub format."""
    folder = source.folder()
    transformers_weight_files(folder)
    spec = spec_of_folder(folder)
    return TimmBackbone(_card(name, spec, folder_source(name)), source, spec=spec)


def _card(name: str, spec: TimmSpec, source: str) -> Card:
    shape = timm_shape(spec)
    papers = spec.settings.get("paper_ids") or "unknown"
    paper = papers if isinstance(papers, str) else papers[0]
    return Card(
        name=name,
        family="timm",
        modalities=("image",),
        readouts={"image": shape.readouts},
        source=source,
        licence=spec.settings.get("license") or "unknown",
        paper=f"https://arxiv.org/abs/{paper[6:]}" if paper.lower().startswith("arxiv:") else paper,
        parameters=shape.parameters,
        **image_fields(spec),
    )
