"""Sources: read every text and image once, before any network runs: statuses, encodings, hashes, sizes.

The result says what the data set really holds. It is the input of the plan's fingerprint, of in-pass
deduplication and of reuse, and the place where broken files are found early.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from cache import RowTable, Split, Status
from extract.images import BadImageError, decode_image, read_header, read_image_file
from extract.samples import IMAGE, JOINT, TEXT, DataSet, Sample
from extract.texts import (
    DEFAULT_ENCODINGS,
    MAX_TEXT_BYTES,
    TextEncodingError,
    clean_text,
    decode_text,
    read_regular_file,
)

_SPLITS = {"": Split.NONE, "train": Split.TRAIN, "val": Split.VAL, "test": Split.TEST}
_N_READERS = 4
#: Samples that one reader takes at a time.
_RUN = 32


@dataclass(frozen=True, slots=True)
class Source:
    """What one sample's files hold.

    Attributes
    ----------
    text : str
        Cleaned text; empty if there is none.
    encoding : str
        How the text was decoded; empty if it was not.
    text_status, image_status : Status
    text_sha256, image_sha256 : bytes of length 32
        Of the raw bytes; zeros where there are none.
    width, height : int
        Picture size in pixels from its header; 0 if unknown.
    """

    text: str
    encoding: str
    text_status: Status
    text_sha256: bytes
    image_status: Status
    image_sha256: bytes
    width: int
    height: int


_NO_HASH = bytes(32)


@dataclass(frozen=True)
class SourceOptions:
    """How texts are read; enters the fingerprint of every text space.

    Attributes
    ----------
    clean : str
        Name of the cleaning recipe.
    encodings : tuple of str
        Tried after UTF-8, in this order.
    decode_images : bool
        Decode every picture fully, to find truncated ones now (the pass does so anyway later).
    """

    clean: str = "basic"
    encodings: tuple[str, ...] = DEFAULT_ENCODINGS
    decode_images: bool = False


def read_sources(
    data_set: DataSet, options: SourceOptions, *, on_progress: Callable[[int], None] | None = None
) -> list[Source]:
    """Read all samples of `data_set`, in its order, with a few threads.

    Parameters
    ----------
    data_set : DataSet
    options : SourceOptions
    on_progress : callable, optional
        Called with the number of samples read so far.

    Returns
    -------
    list of Source
        One per sample: rows in = rows out.
    """
    sources: list[Source] = []
    ahead: deque[Future[list[Source]]] = deque()
    with ThreadPoolExecutor(_N_READERS) as pool:
        # Runs of samples, few of them ahead: a task for each of a million samples would cost gigabytes.
        for start in range(0, len(data_set.samples), _RUN):
            run = data_set.samples[start : start + _RUN]
            ahead.append(pool.submit(_read_run, run, data_set.modalities, options))
            if len(ahead) > 2 * _N_READERS:
                sources += ahead.popleft().result()
                if on_progress is not None:
                    on_progress(len(sources))
        for future in ahead:
            sources += future.result()
    if on_progress is not None:
        on_progress(len(sources))
    return sources


def _read_run(samples: Sequence[Sample], modalities: Sequence[str], options: SourceOptions) -> list[Source]:
    return [read_source(sample, modalities, options) for sample in samples]


def read_source(sample: Sample, modalities: Sequence[str], options: SourceOptions) -> Source:
    """Read the text and the picture of one sample; broken inputs become statuses."""
    text, encoding, text_status, text_sha = _read_text(sample, options) if TEXT in modalities else _NO_TEXT
    status, image_sha, width, height = _read_image(sample, options) if IMAGE in modalities else _NO_IMAGE
    return Source(text, encoding, text_status, text_sha, status, image_sha, width, height)


_NO_TEXT = ("", "", Status.ABSENT, _NO_HASH)
_NO_IMAGE = (Status.ABSENT, _NO_HASH, 0, 0)


def _read_text(sample: Sample, options: SourceOptions) -> tuple[str, str, Status, bytes]:
    if sample.text is not None:
        data, text, encoding = sample.text.encode("utf-8", "surrogatepass"), sample.text, "utf-8"
    elif sample.text_path is None:
        return "", "", Status.TEXT_MISSING, _NO_HASH
    else:
        try:
            data = read_regular_file(sample.text_path, MAX_TEXT_BYTES)
        except OSError:
            return "", "", Status.TEXT_MISSING, _NO_HASH
        try:
            text, encoding = decode_text(data, options.encodings)
        except TextEncodingError:
            return "", "", Status.TEXT_ENCODING, hashlib.sha256(data).digest()
    digest = hashlib.sha256(data).digest()
    if not _is_unicode(text):
        return "", "", Status.TEXT_ENCODING, digest
    cleaned = clean_text(text, options.clean)
    cleaned = text if cleaned == text else cleaned  # one string for both, of a million rows
    return cleaned, encoding, Status.OK if cleaned.strip() else Status.TEXT_EMPTY, digest


def _is_unicode(text: str) -> bool:
    """Whether `text` can be stored: a JSON table may hold lone surrogates, and NUL cuts strings short."""
    return "\0" not in text and not any(0xD800 <= ord(character) <= 0xDFFF for character in text)


def _read_image(sample: Sample, options: SourceOptions) -> tuple[Status, bytes, int, int]:
    if sample.image_path is None:
        return Status.IMAGE_MISSING, _NO_HASH, 0, 0
    digest = _NO_HASH
    try:
        data = read_image_file(sample.image_path)
        digest = hashlib.sha256(data).digest()
        header = read_header(data)
        if options.decode_images:
            decode_image(data)
    except BadImageError as error:
        return error.status, digest, 0, 0
    return Status.OK, digest, header.width, header.height


def row_table(
    data_set: DataSet, sources: Sequence[Source], modalities: Sequence[str], encodings: Sequence[str]
) -> RowTable:
    """Return the store's table of rows for the `modalities` that a backbone embeds.

    Parameters
    ----------
    data_set : DataSet
    sources : sequence of Source
        As returned by `read_sources`.
    modalities : sequence of str
        Columns of ``status``; the groups ``/text`` and ``/image`` follow from it.
    encodings : sequence of str
        Names that the encoding codes index.
    """
    samples = data_set.samples
    codes = {name: code for code, name in enumerate(data_set.class_names)}
    groups: dict[str, int] = {}
    for sample in samples:
        if sample.group is not None:
            groups.setdefault(sample.group, len(groups))
    with_text = TEXT in modalities or JOINT in modalities
    with_image = IMAGE in modalities or JOINT in modalities
    return RowTable(
        ids=tuple(s.id for s in samples),
        label=np.array([-1 if s.label is None else codes[s.label] for s in samples], dtype=np.int32),
        split=np.array([_SPLITS[s.split] for s in samples], dtype=np.uint8),
        group=np.array([-1 if s.group is None else groups[s.group] for s in samples], dtype=np.int32),
        source_sha256=_hash_rows([_source_hash(s) for s in sources]),
        status=status_columns(sources, modalities),
        text=tuple(s.text for s in sources) if with_text else None,
        encoding=np.array([encodings.index(s.encoding) for s in sources], dtype=np.uint8)
        if with_text
        else None,
        image_path=tuple(s.image_name for s in samples) if with_image else None,
        image_width=np.array([s.width for s in sources], dtype=np.int32) if with_image else None,
        image_height=np.array([s.height for s in sources], dtype=np.int32) if with_image else None,
        image_sha256=_hash_rows([s.image_sha256 for s in sources]) if with_image else None,
    )


def status_columns(sources: Sequence[Source], modalities: Sequence[str]) -> np.ndarray:
    """Return uint8 of shape (n_samples, n_modalities)."""
    text = np.array([s.text_status for s in sources], dtype=np.uint8)
    image = np.array([s.image_status for s in sources], dtype=np.uint8)
    # A pair is usable if both halves are; the text's fault is named first.
    columns = {TEXT: text, IMAGE: image, JOINT: np.where(text == Status.OK, image, text)}
    return np.stack([columns[modality] for modality in modalities], axis=1)


def input_hashes(sources: Sequence[Source], modality: str) -> np.ndarray:
    """Return what identifies an input of one modality: uint8 of shape (n_samples, 32).

    A text is identified by its cleaned characters, an image by the bytes of its file, a pair by both hashes.
    """
    if modality == IMAGE:
        return _hash_rows([s.image_sha256 for s in sources])
    texts = [hashlib.sha256(s.text.encode("utf-8")).digest() for s in sources]
    if modality == TEXT:
        return _hash_rows(texts)
    # The rule of cache.ReuseIndex, which finds pairs in earlier stores.
    pairs = [text + s.image_sha256 for text, s in zip(texts, sources, strict=True)]
    return _hash_rows([hashlib.sha256(pair).digest() for pair in pairs])


def encoding_names(sources: Sequence[Source]) -> list[str]:
    """Return the encodings that occur, sorted; ``""`` (not decoded) is always the first."""
    return ["", *sorted({s.encoding for s in sources} - {""})]


def _source_hash(source: Source) -> bytes:
    if source.text_sha256 == _NO_HASH and source.image_sha256 == _NO_HASH:
        return _NO_HASH
    return hashlib.sha256(source.text_sha256 + source.image_sha256).digest()


def _hash_rows(digests: Sequence[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 32)


def count_statuses(status: np.ndarray, modalities: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return, per modality, how many rows have each status (names of `Status`)."""
    return {
        modality: {
            Status(code).label: count for code, count in sorted(Counter(status[:, i].tolist()).items())
        }
        for i, modality in enumerate(modalities)
    }


def count_names(names: Iterable[str]) -> dict[str, int]:
    """Return how often each name occurs, the most frequent first; empty names do not count."""
    counts = Counter(name for name in names if name)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
