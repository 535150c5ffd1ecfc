"""What a pass is going to write, and the fingerprint that says which embeddings these are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from cache.fingerprint import JSON, canonical_json, sha256_hex
from cache.schema import MODALITIES

_READOUT = re.compile(r"[a-z0-9_:-]+")
_HEX64 = re.compile(r"[0-9a-f]{64}")
_ITEM_BYTES = {"float32": 4, "float16": 2}
# Ids, labels, hashes, texts and paths: a generous mean, so that the free-space check is not optimistic.
_ROW_TABLE_BYTES = 1024
_FIXED_BYTES = 1 << 20

PLAN_FORMAT = 1


@dataclass(frozen=True)
class SpaceSpec:
    """One matrix of a store.

    Attributes
    ----------
    name : str
        ``"<modality>.<readout>"``; modality text, image or joint, readout of ``[a-z0-9_:-]``.
    width : int
        Number of columns, at least 1.
    dtype : {"float32", "float16"}
    fingerprint : str
        Hash of everything that decides these vectors given the input; equal fingerprints may share vectors.
    views : int
        Number of extra views stored beside the clean one.

    Raises
    ------
    ValueError
        If a field breaks a rule above; the message names every fault.
    """

    name: str
    width: int
    dtype: Literal["float32", "float16"]
    fingerprint: str
    views: int = 0

    def __post_init__(self) -> None:
        faults = []
        modality, _, readout = self.name.partition(".")
        if modality not in MODALITIES or _READOUT.fullmatch(readout) is None:
            faults.append(
                f"the name {self.name!r} is not '<modality>.<readout>' with a modality of "
                f"{', '.join(MODALITIES)} and a readout of a-z 0-9 _ : -"
            )
        if type(self.width) is not int or self.width < 1:
            faults.append(f"the width is {self.width!r}, but must be an integer of at least 1")
        if self.dtype not in _ITEM_BYTES:
            faults.append(f"the type is {self.dtype!r}, but must be one of {', '.join(_ITEM_BYTES)}")
        if not isinstance(self.fingerprint, str) or not self.fingerprint:
            faults.append(f"the fingerprint is empty or no string ({self.fingerprint!r:.60})")
        if type(self.views) is not int or self.views < 0:
            faults.append(f"the number of views is {self.views!r}, but must be an integer of at least 0")
        if faults:
            raise ValueError(f"Space {self.name!r} cannot be stored: " + "; ".join(faults) + ".")

    @property
    def modality(self) -> str:
        """Part of the name before the dot."""
        return self.name.partition(".")[0]

    @property
    def row_bytes(self) -> int:
        """Bytes that one row takes, with its views."""
        return self.width * _ITEM_BYTES[self.dtype] * (1 + self.views)

    def as_json(self) -> dict[str, JSON]:
        """Return the fields, as they stand in ``meta["spaces"]``; `views` only when there are any."""
        fields: dict[str, JSON] = {
            "name": self.name,
            "width": self.width,
            "dtype": self.dtype,
            "fingerprint": self.fingerprint,
        }
        return {**fields, "views": self.views} if self.views else fields


@dataclass(frozen=True)
class Plan:
    """All that a pass is going to write; its fingerprint names the result.

    Attributes
    ----------
    backbone : str
        Name of the backbone.
    n_rows : int
        At least 1.
    shard_rows : int
        Rows per shard, at least 1; the only field that does not change the fingerprint.
    spaces : tuple of SpaceSpec
        At least one for every modality.
    modalities : tuple of str
        The modalities embedded here, in the order of the status columns.
    identity : mapping of JSON values
        Everything else that changes an embedding: weights, preprocessing, inputs, code.

    Raises
    ------
    ValueError
        If a field breaks a rule above; the message names every fault.
    TypeError
        If `identity` holds something JSON has no form for.
    """

    backbone: str
    n_rows: int
    shard_rows: int
    spaces: tuple[SpaceSpec, ...]
    modalities: tuple[str, ...]
    identity: Mapping[str, JSON] = field(hash=False)

    def __post_init__(self) -> None:
        faults = [
            f"'{name}' is {value!r}, but must be an integer of at least 1"
            for name, value in (("n_rows", self.n_rows), ("shard_rows", self.shard_rows))
            if type(value) is not int or value < 1
        ]
        names = [space.name for space in self.spaces]
        if not self.backbone:
            faults.append("the backbone has no name")
        if len(set(names)) != len(names):
            faults.append(f"spaces {', '.join(names)} have a name twice")
        if not set(self.modalities) <= set(MODALITIES) or len(set(self.modalities)) != len(self.modalities):
            faults.append(
                f"modalities are {', '.join(self.modalities)}; allowed are {', '.join(MODALITIES)}, once each"
            )
        if set(self.modalities) != {space.modality for space in self.spaces}:
            faults.append(
                f"modalities {', '.join(self.modalities)} and spaces {', '.join(names)} do not fit: every "
                "modality needs a space and every space its modality"
            )
        if faults:
            raise ValueError("The plan cannot be carried out: " + "; ".join(faults) + ".")
        canonical_json(self.identity)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (64 hexadecimal digits) of the canonical JSON of all fields but `shard_rows`."""
        return sha256_hex(canonical_json(self.as_json()))

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """Row ranges (start, stop) of the shards, in row order."""
        step = self.shard_rows
        return tuple((start, min(start + step, self.n_rows)) for start in range(0, self.n_rows, step))

    def as_json(self) -> dict[str, JSON]:
        """Return what the fingerprint covers."""
        return {
            "format": PLAN_FORMAT,
            "backbone": self.backbone,
            "n_rows": self.n_rows,
            "spaces": [space.as_json() for space in self.spaces],
            "modalities": list(self.modalities),
            "identity": dict(self.identity),
        }

    def of_modality(self, modality: str) -> tuple[SpaceSpec, ...]:
        """Return the spaces of one modality, in the order of the plan.

        Raises
        ------
        ValueError
            If the plan does not have the modality.
        """
        if modality not in self.modalities:
            raise ValueError(
                f"Modality {modality!r} is not in this pass; it has {', '.join(self.modalities)}."
            )
        return tuple(space for space in self.spaces if space.modality == modality)


def required_bytes(plan: Plan) -> int:
    """Return the bytes of free disk that a pass needs: shards and final file together, plus 5 %."""
    row = sum(space.row_bytes for space in plan.spaces) + 2 * len(plan.modalities)
    return int((2 * row + _ROW_TABLE_BYTES) * plan.n_rows * 1.05) + _FIXED_BYTES


def is_fingerprint(value: Any) -> bool:
    """Whether `value` is 64 lower-case hexadecimal digits."""
    return isinstance(value, str) and _HEX64.fullmatch(value) is not None
