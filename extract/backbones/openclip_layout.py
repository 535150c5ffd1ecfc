"""CLIP checkpoints in OpenCLIP's own layout: ``open_clip_config.json`` beside one weight file."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.backbones.checkpoints import tokenizer_files, tokenizer_settings
from extract.backbones.contract import Backbone, folder_source, mismatch
from extract.backbones.openclip_names import clip_settings, names_of, renamed, unsupported_settings
from extract.backbones.paired import HALVES, ProjectedBackbone
from extract.backbones.paired_families import FAMILIES, PairedShape, card_widths, shape_of_config
from extract.cards import Card
from extract.registry import register_family
from extract.weight_sources import WeightSource
from extract.weights import WeightsMissingError, hash_files, read_json, read_state_dict

if TYPE_CHECKING:
    import torch

    from extract.backbones.pixels import PixelRecipe

CONFIG_FILE = "open_clip_config.json"
#: In the order in which they are preferred.
WEIGHT_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
#: CLIP's vocabulary inside the package open-clip-torch; the layout itself carries none.
VOCABULARY_FILE = "bpe_simple_vocab_16e6.txt.gz"
_OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
_OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
_RESIZE_MODES = {"shortest": "shorter", "squash": "exact"}


class OpenClipBackbone(ProjectedBackbone):
    """A folder in OpenCLIP's layout; its weights are renamed in memory and run by transformers' CLIP."""

    @property
    def recipe(self) -> PixelRecipe:
        """How images become the network's input; OpenCLIP crops as torchvision does."""
        from extract.backbones.pixels import PixelRecipe

        return PixelRecipe.from_card(self.card, odd_margin="even")

    def _shape(self, folder: Path) -> PairedShape:
        return openclip_shape(folder)

    def _files(self, folder: Path) -> list[Path]:
        return [weight_file(folder), folder / CONFIG_FILE, *tokenizer_files(folder)]

    def _mismatches(self, folder: Path) -> list[str]:
        weight_file(folder)
        found = openclip_pixels(folder)
        names = ("resize", "resize_mode", "interpolation", "mean", "std")
        return [
            *self._size_mismatches(self._shape(folder)),
            *(line for name in names for line in mismatch(name, getattr(self.card, name), found[name])),
        ]

    def _tokenizer_settings(self) -> dict[str, Any]:
        if tokenizer_files(self._folder):
            return tokenizer_settings(self._folder)
        file = packaged_vocabulary(self._folder)
        return {"tokenizer": "CLIPTokenizer", "tokenizer_sha256": hash_files(file.parent, [file])}

    def _load_tokenizer(self) -> Any:
        if tokenizer_files(self._folder):
            return super()._load_tokenizer()
        return clip_tokenizer(packaged_vocabulary(self._folder))

    def _load_half(self, modality: str, device: str, precision: str) -> Any:
        from transformers import CLIPConfig, CLIPModel

        from extract.backbones.arithmetic import loading_dtype, place
        from extract.backbones.loading import one_line, quiet_transformers
        from extract.backbones.network_parts import parts_of

        file = weight_file(self._folder)
        state = read_tower(file, modality)
        with quiet_transformers():
            try:
                network, report = parts_of(CLIPModel, HALVES[modality]).from_pretrained(
                    None,
                    config=CLIPConfig(**clip_settings(model_settings(self._folder))),
                    state_dict=renamed(state, modality),
                    dtype=loading_dtype(precision, device),
                    output_loading_info=True,
                )
            except (RuntimeError, ValueError) as error:
                raise ValueError(
                    f"Weight file '{file}' does not fit the network that its {CONFIG_FILE} describes "
                    f"({one_line(error)}). Copy the whole folder of the model again."
                ) from error
        missing = sorted(report["missing_keys"])
        if missing:
            raise ValueError(
                f"Weight file '{file}' lacks {len(missing)} tensors of the network "
                f"({', '.join(missing[:5])}), which would be random numbers. Copy the whole folder of the "
                "model again."
            )
        return place(network, precision, device)


def read_tower(file: Path, modality: str) -> Mapping[str, torch.Tensor]:
    """Read the weights of one tower under OpenCLIP's names; of a .safetensors file, nothing else is read.

    Raises
    ------
    UnsafeWeightsError
        If the file is a pickle that holds more than tensors.
    ValueError
        If it is damaged.
    """
    if file.suffix != ".safetensors":
        state = read_state_dict(file)
        return {name: state[name] for name in names_of(state, modality)}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in names_of(opened.keys(), modality)}
    except SafetensorError as error:
        raise ValueError(f"Weight file '{file}' is damaged ({error}). Copy it again.") from error


def weight_file(folder: Path) -> Path:
    """Return the weight file of `folder`.

    Raises
    ------
    WeightsMissingError
        If there is none.
    """
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return folder / name
    raise WeightsMissingError(
        f"Folder '{folder}' is in OpenCLIP's layout, but holds no weights: expected "
        f"{' or '.join(repr(name) for name in WEIGHT_FILES)}. Copy the whole folder of the model again."
    )


def model_settings(folder: Path) -> Mapping[str, Any]:
    """Return ``model_cfg`` of `folder`.

    Raises
    ------
    ValueError
        If it describes other towers than OpenCLIP's standard ones; all of its settings that do are named.
    """
    model = read_json(folder / CONFIG_FILE).get("model_cfg")
    faults = unsupported_settings(model) if isinstance(model, Mapping) else [f"model_cfg is {model!r}"]
    if faults:
        raise ValueError(
            f"Weights in '{folder}' have towers that OpenCLIP builds from other parts: {'; '.join(faults)}. "
            "Supported are its standard vision and text transformers. Make its vectors elsewhere and use "
            "'embedonce import'."
        )
    assert isinstance(model, Mapping)
    return model


def openclip_shape(folder: Path) -> PairedShape:
    """Return the sizes of the checkpoint in `folder`."""
    from transformers import CLIPConfig

    from extract.backbones.loading import quiet_transformers

    with quiet_transformers():
        config = CLIPConfig(**clip_settings(model_settings(folder)))
    return shape_of_config(config, FAMILIES["clip"])


def openclip_pixels(folder: Path) -> dict[str, Any]:
    """Return a card's image fields from ``preprocess_cfg``; absent ones have OpenCLIP's defaults.

    Raises
    ------
    ValueError
        If it asks for something that is not supported; all faults are named.
    """
    settings = read_json(folder / CONFIG_FILE).get("preprocess_cfg") or {}
    size = openclip_shape(folder).image_size
    mode = settings.get("resize_mode") or "shortest"
    interpolation = settings.get("interpolation") or "bicubic"
    if interpolation == "random":
        interpolation = "bicubic"  # what OpenCLIP takes for it when it does not train
    faults = []
    if settings.get("size", size) not in (size, [size, size]):
        faults += [f"size is {settings['size']!r}, the network takes {size}"]
    if mode not in _RESIZE_MODES:
        faults += [f"resize_mode is {mode!r}, supported are {', '.join(_RESIZE_MODES)}"]
    if interpolation not in ("bicubic", "bilinear"):
        faults += [f"interpolation is {interpolation!r}, supported are bicubic and bilinear"]
    faults += [
        f"{name} is {settings[name]!r}, not three numbers"
        for name in ("mean", "std")
        if settings.get(name) and not (isinstance(settings[name], list) and len(settings[name]) == 3)
    ]
    if faults:
        raise ValueError(
            f"Image preparation in '{folder / CONFIG_FILE}' is not supported: {'; '.join(faults)}. Make its "
            "vectors elsewhere and use 'embedonce import'."
        )
    return {
        "image_size": size,
        "resize": size,
        "resize_mode": _RESIZE_MODES[mode],
        "interpolation": interpolation,
        "mean": tuple(settings.get("mean") or _OPENAI_MEAN),
        "std": tuple(settings.get("std") or _OPENAI_STD),
    }


def packaged_vocabulary(folder: Path) -> Path:
    """Return CLIP's vocabulary file of the installed package open-clip-torch, for a `folder` without one.

    Raises
    ------
    WeightsMissingError
        If the package is not installed.
    """
    spec = find_spec("open_clip")  # located, never imported
    for root in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(root) / VOCABULARY_FILE).is_file():
            return Path(root) / VOCABULARY_FILE
    raise WeightsMissingError(
        f"Folder '{folder}' is in OpenCLIP's layout and holds no tokenizer. Copy tokenizer.json and "
        "tokenizer_config.json of openai/clip-vit-base-patch32 into it, or install the package that carries "
        "the vocabulary: pip install open-clip-torch."
    )


def clip_tokenizer(file: Path) -> Any:
    """Build transformers' CLIPTokenizer from CLIP's published list of merges.

    Its ids are those of OpenCLIP's own tokenizer. Texts are normalised as transformers does (NFC, spaces
    folded, lower case); OpenCLIP also repairs wrongly decoded texts and resolves HTML entities.
    """
    import gzip

    from transformers import CLIPTokenizer

    from extract.backbones.loading import quiet_transformers

    lines = gzip.decompress(file.read_bytes()).decode("utf-8").split("\n")
    # The file holds more merges than CLIP uses: 49,152 tokens less 256 bytes, twice, and 2 special tokens.
    merges: Any = [tuple(line.split()) for line in lines[1 : 49152 - 256 - 2 + 1]]
    letters = _byte_letters()
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(merge) for merge in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    with quiet_transformers():
        tokenizer: Any = CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=merges)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def _byte_letters() -> list[str]:
    """Return the letter of each byte in CLIP's order: printable ones first, as themselves."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]


@register_family("open-clip")
def recognise_openclip(name: str, source: WeightSource) -> Backbone:
    """Build a CLIP backbone from any folder in OpenCLIP's layout."""
    folder = source.folder()
    shape = openclip_shape(folder)
    card = Card(
        name=name,
        family="clip",
        modalities=("text", "image"),
        source=folder_source(name),
        token_limit=shape.token_limit,
        padding="longest",
        **card_widths(shape, FAMILIES["clip"].meanings),
        **openclip_pixels(folder),
    )
    return OpenClipBackbone(card, source, patch_size=shape.patch_size, activation=shape.activation)
