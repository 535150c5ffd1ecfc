"""Encoders: the families of text network that are supported, and what a folder of their weights holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extract.backbones.checkpoints import model_type
from extract.weights import read_json, transformers_weight_files


@dataclass(frozen=True)
class EncoderFamily:
    """One architecture of transformers.

    Attributes
    ----------
    network : str
        Name of the class without a task's head. Checkpoints that were saved with a head load too: the class
        strips the prefix of its own tensors and leaves the head's alone.
    has_pooler : bool
        Whether the class can be built with a pooler.
    trains_pooler : bool
        Whether pre-training trains that pooler. RoBERTa's and MPNet's files may hold one that was never
        trained.
    counts_from_padding : bool
        Whether the first token's position is the padding token's number plus one, so that the position table
        is longer than the longest text.
    """

    network: str
    has_pooler: bool = False
    trains_pooler: bool = False
    counts_from_padding: bool = False


#: ``model_type`` in config.json -> family.
ENCODERS = {
    "bert": EncoderFamily("BertModel", has_pooler=True, trains_pooler=True),
    "camembert": EncoderFamily("CamembertModel", has_pooler=True, counts_from_padding=True),
    "deberta": EncoderFamily("DebertaModel"),
    "deberta-v2": EncoderFamily("DebertaV2Model"),  # version 3 too
    "distilbert": EncoderFamily("DistilBertModel"),
    "electra": EncoderFamily("ElectraModel"),
    "modernbert": EncoderFamily("ModernBertModel"),
    "mpnet": EncoderFamily("MPNetModel", has_pooler=True, counts_from_padding=True),
    "roberta": EncoderFamily("RobertaModel", has_pooler=True, counts_from_padding=True),
    "xlm-roberta": EncoderFamily("XLMRobertaModel", has_pooler=True, counts_from_padding=True),
}


@dataclass(frozen=True)
class EncoderShape:
    """Sizes of an encoder, from its files.

    Attributes
    ----------
    family : str
        A key of ``ENCODERS``.
    width : int
    layers : int
        Transformer layers; hidden states number one more.
    positions : int
        Most tokens that the network itself takes, special tokens included.
    vocabulary : int
    """

    family: str
    width: int
    layers: int
    positions: int
    vocabulary: int


def encoder_shape(folder: Path) -> EncoderShape:
    """Read the sizes of the encoder in `folder`.

    Raises
    ------
    ValueError
        If its family is not supported, or it is a decoder, which does not see the words to the right.
    """
    from transformers import AutoConfig

    from extract.backbones.loading import load_config

    family = model_type(folder)
    if family not in ENCODERS:
        raise ValueError(
            f"Text encoder in '{folder}' is of family '{family}'; supported are {', '.join(ENCODERS)}. "
            "Make its vectors elsewhere and use 'embedonce import'."
        )
    config = load_config(AutoConfig, folder)
    if getattr(config, "is_decoder", False):
        raise ValueError(
            f"Text encoder in '{folder}' is a decoder (is_decoder in config.json is true); supported are "
            "encoders. Make its vectors elsewhere and use 'embedonce import'."
        )
    first = config.pad_token_id + 1 if ENCODERS[family].counts_from_padding else 0
    return EncoderShape(
        family=family,
        width=config.hidden_size,
        layers=config.num_hidden_layers,
        positions=config.max_position_embeddings - first,
        vocabulary=config.vocab_size,
    )


def token_limit(folder: Path, shape: EncoderShape) -> int:
    """Return the most tokens of a text: the tokenizer's declared length, at most the network's positions.

    Files without a declared length count as unlimited (twitter-roberta's), and some declare 1e30.
    """
    file = folder / "tokenizer_config.json"
    declared = read_json(file).get("model_max_length") if file.is_file() else None
    return min(shape.positions, int(declared or shape.positions))


def load_encoder(
    folder: Path,
    *,
    with_pooler: bool,
    precision: str,
    device: str,
    packed: bool = True,
    remedy: str | None = None,
) -> Any:
    """Load the encoder in `folder`. See ``load_network``.

    Parameters
    ----------
    with_pooler : bool
        Whether to build and load the trained pooler. Left out otherwise, so that checkpoints without one
        serve the other readouts.
    packed : bool
        See ``arithmetic.place``.
    remedy : str or None
        What to do when weights are missing.
    """
    import transformers

    from extract.backbones.loading import load_network

    family = ENCODERS[model_type(folder)]
    network = load_network(
        getattr(transformers, family.network),
        folder,
        precision=precision,
        device=device,
        packed=packed,
        options={"add_pooling_layer": with_pooler} if family.has_pooler else {},
        remedy=remedy or "Copy the whole folder of the model again.",
    )
    _cast_attention_biases(network)
    return network


def check_fit(folder: Path, tokenizer: Any, vocabulary: int) -> None:
    """Raise ValueError if the tokenizer gives token numbers beyond the `vocabulary` of the network.

    Tokens added on top of the tokenizer's own vocabulary may lie beyond, if no text is padded, opened or
    closed with them: some classes declare names that their networks never saw (CamemBERT's
    ``<unk>NOTUSED``).
    """
    backend = tokenizer.backend_tokenizer
    used = [tokenizer.pad_token_id, tokenizer.unk_token_id or 0, *backend.encode("").ids]
    known = max(backend.get_vocab_size(with_added_tokens=False), max(used) + 1)
    if known > vocabulary:
        raise ValueError(
            f"Tokenizer in '{folder}' gives {known} token numbers, the network beside it takes {vocabulary}. "
            "Copy the whole folder of the model again, so that they belong together."
        )


def holds_pooler(folder: Path) -> bool:
    """Whether the weight files in `folder` hold a pooler's tensors."""
    return any(name.endswith("pooler.dense.weight") for name in tensor_names(folder))


def tensor_names(folder: Path) -> list[str]:
    """Return the names of the tensors in a transformers folder, without reading the tensors if possible."""
    for index in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
        single = folder / index.removesuffix(".index.json")
        if (folder / index).is_file() and not single.is_file():
            return list(read_json(folder / index)["weight_map"])
    names: list[str] = []
    for file in transformers_weight_files(folder):
        names += _safetensors_names(file) if file.suffix == ".safetensors" else _pickle_names(file)
    return names


def _cast_attention_biases(network: Any) -> None:
    """Give DeBERTa's attention biases the precision of the matrices beside them.

    transformers 5.23 keeps these two in float32 whatever precision is asked for, and its forward then fails.
    """
    for layer in network.modules():
        if hasattr(layer, "q_bias") and hasattr(layer, "in_proj"):
            for bias in (layer.q_bias, layer.v_bias):
                bias.data = bias.data.to(layer.in_proj.weight.dtype)


def _safetensors_names(file: Path) -> list[str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as tensors:
            return list(tensors.keys())
    except SafetensorError as error:
        raise ValueError(f"Weight file '{file}' is damaged ({error}). Copy it again.") from error


def _pickle_names(file: Path) -> list[str]:
    from extract.weights import read_state_dict

    return list(read_state_dict(file))
