"""Sources: read every text and image once, before any network runs: statuses, encodings, hashes, sizes.

The result says what the data set really holds. It is the input of the plan's fingerprint, of in-pass
deduplication and of reuse, and the place where broken files are found early.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from cache import RowTable, Status, is_encodable
from extract.data_sets import DataSet
from extract.images import BadImageError, decode_image, read_header, read_image_file
from extract.samples import IMAGE, JOINT, TEXT, Sample
from extract.source_table import NO_HASH, Source, SourceTable, SourceTableBuilder, status_columns
from extract.texts import (
    DEFAULT_ENCODINGS,
    MAX_TEXT_BYTES,
    TextEncodingError,
    clean_text,
    decode_text,
    read_regular_file,
)

_N_READERS = 4
#: Samples that one reader takes at a time.
_RUN = 32


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
) -> SourceTable:
    """Read all samples of `data_set`, in its order, with a few threads.

    Parameters
    ----------
    data_set : DataSet
    options : SourceOptions
    on_progress : callable, optional
        Called with the number of samples read so far.

    Returns
    -------
    SourceTable
        One source per sample: rows in = rows out.
    """
    table = data_set.table
    builder = SourceTableBuilder(len(table), with_images=IMAGE in data_set.modalities)
    runs = _in_threads if table.has_files else map
    for sources in runs(partial(_read_run, data_set, options), range(0, len(table), _RUN)):
        builder.extend(sources)
        if on_progress is not None:
            on_progress(builder.n_done)
    return builder.table()


def _in_threads(read: Callable[[int], list[Source]], starts: Iterable[int]) -> Iterator[list[Source]]:
    """Do as `map`, with a few threads that wait for the disk; texts of a table are read faster without."""
    ahead: deque[Future[list[Source]]] = deque()
    with ThreadPoolExecutor(_N_READERS) as pool:
        # Few of them ahead: a task for each of a million samples would cost gigabytes.
        for start in starts:
            ahead.append(pool.submit(read, start))
            if len(ahead) > 2 * _N_READERS:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _read_run(data_set: DataSet, options: SourceOptions, start: int) -> list[Source]:
    samples = data_set.table[start : start + _RUN]
    return [read_source(sample, data_set.modalities, options) for sample in samples]


def read_source(sample: Sample, modalities: Sequence[str], options: SourceOptions) -> Source:
    """Read the text and the picture of one sample; broken inputs become statuses."""
    text, encoding, text_status, text_sha = _read_text(sample, options) if TEXT in modalities else _NO_TEXT
    status, image_sha, width, height = _read_image(sample, options) if IMAGE in modalities else _NO_IMAGE
    digest = NO_HASH
    if text_sha != NO_HASH or image_sha != NO_HASH:
        digest = hashlib.sha256(text_sha + image_sha).digest()
    return Source(text, encoding, text_status, digest, status, image_sha, width, height)


_NO_TEXT = ("", "", Status.ABSENT, NO_HASH)
_NO_IMAGE = (Status.ABSENT, NO_HASH, 0, 0)


def _read_text(sample: Sample, options: SourceOptions) -> tuple[str, str, Status, bytes]:
    if sample.text is not None:
        data, text, encoding = sample.text.encode("utf-8", "surrogatepass"), sample.text, "utf-8"
    elif sample.text_path is None:
        return "", "", Status.TEXT_MISSING, NO_HASH
    else:
        try:
            data = read_regular_file(sample.text_path, MAX_TEXT_BYTES)
        except OSError:
            return "", "", Status.TEXT_MISSING, NO_HASH
        try:
            text, encoding = decode_text(data, options.encodings)
        except TextEncodingError:
            return "", "", Status.TEXT_ENCODING, hashlib.sha256(data).digest()
    digest = hashlib.sha256(data).digest()
    if not is_encodable(text) or "\0" in text:  # a JSON table may hold either; neither can be stored
        return "", "", Status.TEXT_ENCODING, digest
    cleaned = clean_text(text, options.clean)
    return cleaned, encoding, Status.OK if cleaned.strip() else Status.TEXT_EMPTY, digest


def _read_image(sample: Sample, options: SourceOptions) -> tuple[Status, bytes, int, int]:
    if sample.image_path is None:
        return Status.IMAGE_MISSING, NO_HASH, 0, 0
    digest = NO_HASH
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
    data_set: DataSet, sources: SourceTable, modalities: Sequence[str], encodings: Sequence[str]
) -> RowTable:
    """Return the store's table of rows for the `modalities` that a backbone embeds.

    Parameters
    ----------
    data_set : DataSet
    sources : SourceTable
        As returned by `read_sources`.
    modalities : sequence of str
        Columns of ``status``; the groups ``/text`` and ``/image`` follow from it.
    encodings : sequence of str
        Names that the encoding codes index.
    """
    samples = data_set.table
    place = np.array([encodings.index(name) for name in sources.encodings], dtype=np.uint8)
    with_text = TEXT in modalities or JOINT in modalities
    with_image = IMAGE in modalities or JOINT in modalities
    return RowTable(
        ids=samples.ids,
        label=samples.label_codes(),
        split=samples.split,
        group=samples.group_codes(),
        source_sha256=sources.source_sha256,
        status=status_columns(sources, modalities),
        text=sources.texts if with_text else None,
        encoding=place[sources.encoding] if with_text else None,
        image_path=samples.image_names if with_image else None,
        image_width=np.ascontiguousarray(sources.sizes[:, 0]) if with_image else None,
        image_height=np.ascontiguousarray(sources.sizes[:, 1]) if with_image else None,
        image_sha256=sources.image_sha256 if with_image else None,
    )


def encoding_names(sources: SourceTable) -> list[str]:
    """Return the encodings that occur, sorted; ``""`` (not decoded) is always the first."""
    return ["", *sorted(set(sources.encodings) - {""})]


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
