"""Loading transformers checkpoints: quietly, from local files, and only when every weight is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.backbones.checkpoints import check_vocabulary
from extract.weights import read_json, refuse_unsafe, torch_dtype, transformers_weight_files

if TYPE_CHECKING:
    import torch


def load_network(
    model_class: Any,
    folder: Path,
    *,
    precision: str,
    device: str,
    options: Mapping[str, Any] | None = None,
    remedy: str = "Copy the whole folder of the model again.",
    uniform: bool = False,
    packed: bool = True,
) -> Any:
    """Load a transformers model in eval mode, in the stated precision, on the stated device.

    Parameters
    ----------
    model_class : type
        A transformers model class.
    folder : Path
    precision : {"fp32", "fp16", "bf16"}
    device : str
    options : Mapping or None
        Further arguments of the model's constructor.
    remedy : str
        What to do when weights are missing.
    uniform : bool
        Whether norms and embeddings take the precision on a CPU too. For large networks whose files are in
        bf16: reading them as float32 would need twice the memory and win no digit.
    packed : bool
        See ``arithmetic.place``.

    Raises
    ------
    UnsafeWeightsError
        If the weights are a pickle that holds more than tensors.
    ValueError
        If a weight of the network is missing in the files or has another shape: transformers would fill it
        with random numbers, and the vectors would mean nothing.
    """
    # torch loads here, not with the module: cards that are read from folders need only load_config.
    from extract.backbones.arithmetic import loading_dtype, place

    dtype = torch_dtype(precision) if uniform else loading_dtype(precision, device)
    network = read_network(model_class, folder, dtype=dtype, options=options, remedy=remedy)
    return place(network, precision, device, packed=packed)


def read_network(
    model_class: Any,
    folder: Path,
    *,
    dtype: torch.dtype,
    options: Mapping[str, Any] | None = None,
    remedy: str = "Copy the whole folder of the model again.",
) -> Any:
    """Read a transformers model to CPU memory, to be changed before ``arithmetic.place`` makes it ready.

    Parameters and errors are those of :func:`load_network`.
    """
    refuse_unsafe(transformers_weight_files(folder))
    with quiet_transformers():
        try:
            model, report = model_class.from_pretrained(
                str(folder),
                # Never the default: transformers 5 takes the checkpoint's own dtype, which differs between
                # uploads.
                dtype=dtype,
                local_files_only=True,
                output_loading_info=True,
                **(options or {}),
            )
        except RuntimeError as error:
            raise ValueError(
                f"Weights in '{folder}' do not fit the network that its config.json describes "
                f"({one_line(error)}). {remedy}"
            ) from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise ValueError(
            f"Weights in '{folder}' lack {len(missing)} tensors of the network "
            f"({', '.join(missing[:5])}), which would be "
            f"random numbers. {remedy}"
        )
    return model


def load_tokenizer(folder: Path, *, closes_texts: bool = True) -> Any:
    """Load the tokenizer of `folder`, set to neither cut nor pad.

    Some tokenizer files carry a length to cut and pad to (MiniLM's says 128), which is not the network's
    limit.

    Parameters
    ----------
    folder : Path
    closes_texts : bool
        Whether it must close a text with one special token; what ends a chat is in its template.

    Raises
    ------
    WeightsMissingError
        If its vocabulary is not in the folder: transformers would take an empty one, in which every word is
        unknown.
    ValueError
        If it cannot be read, has no fast version or no padding token, or does not close a text.
    """
    from transformers import AutoTokenizer

    check_vocabulary(folder)
    with quiet_transformers():
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                # Never left open: the library would ask at the terminal whether to run a folder's code.
                str(folder),
                local_files_only=True,
                trust_remote_code=False,
            )
        except Exception as error:  # the tokenizers library raises bare ones
            raise ValueError(
                f"Tokenizer in '{folder}' cannot be read ({one_line(error)}). Copy the whole folder of the "
                "model again; a tokenizer.json that you trust, saved beside it, is read first."
            ) from error
    if not tokenizer.is_fast or tokenizer.pad_token_id is None:
        raise ValueError(
            f"Tokenizer in '{folder}' ({type(tokenizer).__name__}) has no fast version or no padding token. "
            "Save it with a tokenizer.json and a pad_token."
        )
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    closing = tokenizer.backend_tokenizer.encode("").ids[-1:]
    if closes_texts and closing not in ([tokenizer.sep_token_id], [tokenizer.eos_token_id]):
        raise ValueError(
            f"Tokenizer in '{folder}' ({type(tokenizer).__name__}) does not close a text with its sep "
            "or eos token, which the network reads. Save it with that post-processor."
        )
    return tokenizer


def load_config(config_class: Any, folder: Path) -> Any:
    """Read ``config.json`` of `folder` with all of the class's defaults filled in.

    Raises
    ------
    ValueError
        If an entry is not what the class takes.
    """
    read_json(folder / "config.json")  # its own checks: a regular file of moderate size that is a JSON object
    with quiet_transformers():
        try:
            return config_class.from_pretrained(str(folder), local_files_only=True)
        except Exception as error:  # whatever its validation raises: a dozen types, some not even ValueErrors
            raise ValueError(
                f"The config.json in '{folder}' does not describe a network ({one_line(error)}). Copy the "
                "whole folder of the model again."
            ) from error


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers from printing progress bars and load reports, and put its settings back after."""
    from transformers import utils

    logging: Any = utils.logging  # its functions carry no types
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def one_line(error: Exception) -> str:
    """Return the text of torch's many-line errors on one line."""
    return " ".join(str(error).split())
