"""Two stores and everything that can happen to them, in any order, against a model in memory."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cache import (
    AlignError,
    FeatureStore,
    FingerprintMismatch,
    PassFolder,
    ReuseIndex,
    StoreBusyError,
    StoreError,
    StoreIncompleteError,
    StoreMissingError,
    align,
    unfinished,
    verify_store,
)
from tests.cache.builders import META, Toy, make_data, part

N_ROWS, WIDTH = 7, 4
NAMES = ("a", "b")


def _toy(version: int) -> Toy:
    """Return the pass of one version of the settings: version 1 has other weights, so other vectors."""
    toy = Toy(n=N_ROWS, shard_rows=3, modalities=("text",), width=WIDTH)
    toy.plan = replace(
        toy.plan,
        spaces=(replace(toy.plan.spaces[0], fingerprint=f"fp-text-{version}"),),
        identity={"weights": f"w{version}", "seed": 1},
    )
    toy.data = make_data(toy.plan, random_state=version)
    return toy


TOYS = (_toy(0), _toy(1))
RANGES = TOYS[0].plan.ranges


@cache
def _good_bytes(version: int) -> bytes:
    """Return the store of an undisturbed pass."""
    with tempfile.TemporaryDirectory() as folder:
        return TOYS[version].write(Path(folder) / "good.h5").read_bytes()


class Place:
    """What the model knows of one store: who has begun it, what is safe, and what is published."""

    def __init__(self) -> None:
        self.open: PassFolder | None = None
        self.begun: int | None = None
        self.safe: set[tuple[int, int]] = set()
        self.held: set[tuple[int, int]] = set()
        self.has_damaged_shard = False
        self.published: int | None = None
        self.is_damaged = False


class StoreMachine(RuleBasedStateMachine):
    """Begin, write, kill, damage, publish, read, align and reuse two stores in one folder."""

    @initialize()
    def begin_with_nothing(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.places = {name: Place() for name in NAMES}

    def teardown(self) -> None:
        for place in self.places.values():
            if place.open is not None:
                place.open.__exit__(None, None, None)
        shutil.rmtree(self.folder)

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.h5"

    # --- passes -------------------------------------------------------------------------------------

    @rule(name=st.sampled_from(NAMES), version=st.integers(0, 1), resume=st.booleans())
    def start(self, name: str, version: int, resume: bool) -> None:
        """A pass begins or goes on; one at a time, and only with the settings it began with."""
        place = self.places[name]
        folder = PassFolder(self.path(name), TOYS[version].plan, resume=resume)
        if place.open is not None:
            with pytest.raises(StoreBusyError, match="is being written by process"):
                folder.__enter__()
            return
        if resume and place.begun not in (None, version) and (place.safe or place.has_damaged_shard):
            with pytest.raises(FingerprintMismatch, match=r"started with identity\.weights"):
                folder.__enter__()
            return
        place.open = folder.__enter__()
        if not resume:
            place.safe = set()
        place.begun, place.has_damaged_shard = version, False
        assert folder.done("text") == place.safe
        assert folder.resumed("text") == sum(stop - start for start, stop in place.safe)

    @rule(name=st.sampled_from(NAMES), rows=st.sampled_from(RANGES))
    def write(self, name: str, rows: tuple[int, int]) -> None:
        """A shard is written once, and counts from then on."""
        place = self.places[name]
        if place.open is None or place.begun is None:
            return
        data = part(TOYS[place.begun].data["text"], *rows)
        if rows in place.safe | place.held:
            with pytest.raises(ValueError, match="are no missing range"):
                place.open.write("text", *rows, data)
            return
        place.open.write("text", *rows, data)
        place.safe |= place.held | {rows}
        place.held = set()

    @rule(name=st.sampled_from(NAMES), rows=st.sampled_from(RANGES))
    def hold(self, name: str, rows: tuple[int, int]) -> None:
        """A shard is held in memory: it is finished, and not yet safe."""
        place = self.places[name]
        if place.open is None or place.begun is None or rows in place.safe | place.held:
            return
        place.open.hold("text", *rows, part(TOYS[place.begun].data["text"], *rows))
        place.held.add(rows)
        assert place.open.done("text") == place.safe | place.held

    @rule(name=st.sampled_from(NAMES), torn=st.binary(max_size=20))
    def die(self, name: str, torn: bytes) -> None:
        """The process is gone, in the middle of a write: what it held is lost."""
        place = self.places[name]
        if place.open is not None:
            place.open._lock.release()  # what the system does for the dead
            (place.open.folder.shards / f".{hashlib.sha256(torn).hexdigest()}.tmp").write_bytes(torn)
            place.open, place.held = None, set()

    @rule(name=st.sampled_from(NAMES), by_error=st.booleans())
    def leave(self, name: str, by_error: bool) -> None:
        """The pass ends early, by an error or a Ctrl-C or without: what it held is safe."""
        place = self.places[name]
        if place.open is not None:
            error = KeyboardInterrupt() if by_error else None
            place.open.__exit__(None if error is None else KeyboardInterrupt, error, None)
            place.open, place.safe, place.held = None, place.safe | place.held, set()

    @rule(name=st.sampled_from(NAMES), which=st.integers(0, 99), at=st.integers(0, 1 << 20))
    def damage_a_shard(self, name: str, which: int, at: int) -> None:
        """A bit of a shard flips while no pass runs: its rows are missing then, and nothing else."""
        place = self.places[name]
        if place.open is not None or not place.safe:
            return
        start, stop = sorted(place.safe)[which % len(place.safe)]
        (path,) = (self.folder / f"{name}.h5.work" / "shards").glob(f"{start:010d}-{stop:010d}-*.h5")
        _flip(path, at)
        place.safe.remove((start, stop))
        place.has_damaged_shard = True

    @rule(name=st.sampled_from(NAMES))
    def publish(self, name: str) -> None:
        """A whole pass becomes the store, in the very bytes of an undisturbed one; half of one does not."""
        place = self.places[name]
        if place.open is None or place.begun is None:
            return
        if place.safe | place.held != set(RANGES):
            with pytest.raises(StoreIncompleteError, match="cannot be published"):
                place.open.publish(TOYS[place.begun].table, META)
            return
        assert place.open.publish(TOYS[place.begun].table, META) == self.path(name)
        place.open.__exit__(None, None, None)
        assert self.path(name).read_bytes() == _good_bytes(place.begun)
        place.published, place.is_damaged = place.begun, False
        place.open, place.begun, place.safe, place.held = None, None, set(), set()

    @rule(name=st.sampled_from(NAMES), version=st.integers(0, 1))
    def make(self, name: str, version: int) -> None:
        """A pass goes through from wherever the last one stopped."""
        place = self.places[name]
        self.start(name, version, resume=place.begun in (None, version))
        for rows in set(RANGES) - place.safe - place.held:
            self.write(name, rows)
        self.publish(name)

    # --- readers ------------------------------------------------------------------------------------

    @rule(name=st.sampled_from(NAMES), at=st.integers(0, 1 << 20))
    def damage_the_store(self, name: str, at: int) -> None:
        """A bit of a published store flips."""
        place = self.places[name]
        if place.published is not None and not place.is_damaged:
            _flip(self.path(name), at)
            place.is_damaged = True

    @rule(name=st.sampled_from(NAMES))
    def read(self, name: str) -> None:
        """A reader gets what was published, or a named error."""
        place, path = self.places[name], self.path(name)
        if place.published is None:
            expected = StoreMissingError if place.begun is None else StoreIncompleteError
            with pytest.raises(expected, match=r"There is no store at|is not finished"):
                FeatureStore.open(path)
            return
        toy = TOYS[place.published]
        try:
            store = FeatureStore.open(path)
        except StoreError as error:
            assert place.is_damaged, error
            return
        with store:
            space = store.select("text")
            np.testing.assert_array_equal(space[:], toy.data["text"].features["text.pooled"], strict=True)
            np.testing.assert_array_equal(space.valid, toy.data["text"].valid.astype(bool))
            np.testing.assert_array_equal(store.labels, toy.table.label)
            assert (store.ids, store.texts) == (toy.table.ids, toy.table.text)
            assert store.fingerprint == toy.plan.fingerprint

    @rule(name=st.sampled_from(NAMES))
    def verify(self, name: str) -> None:
        """A verification agrees with what happened to the file."""
        place = self.places[name]
        if place.published is None:
            return
        if not place.is_damaged:
            assert verify_store(self.path(name)).n_rows == N_ROWS
            return
        try:
            verify_store(self.path(name))
        except StoreError:
            return
        self.read(name)  # a bit that means nothing (padding of HDF5's) changed no value

    @precondition(lambda self: all(place.published is not None for place in self.places.values()))
    @rule()
    def join(self) -> None:
        """Two whole stores of one data set join row by row."""
        if any(place.is_damaged for place in self.places.values()):
            return
        stores = [FeatureStore.open(self.path(name)) for name in NAMES]
        aligned = align(stores)
        assert aligned.ids == TOYS[0].table.ids
        for at, name in enumerate(NAMES):
            x, valid = aligned.take(at, "text")
            data = TOYS[self.places[name].published or 0].data["text"]
            np.testing.assert_array_equal(x, data.features["text.pooled"])
            np.testing.assert_array_equal(valid, data.valid.astype(bool))
        for store in stores:
            store.close()
        with pytest.raises(AlignError, match="There is no store to align"):
            align([])

    @rule(version=st.integers(0, 1))
    def reuse(self, version: int) -> None:
        """Vectors are found by their input in whole stores, and are those that a pass would compute."""
        toy = TOYS[version]
        texts = toy.table.text or ()
        hashes = np.array([list(hashlib.sha256(text.encode()).digest()) for text in texts], dtype=np.uint8)
        fingerprint = toy.plan.spaces[0].fingerprint
        found, vectors = ReuseIndex.from_folder(self.folder).lookup(fingerprint, hashes)
        whole = {p.published for p in self.places.values() if p.published is not None and not p.is_damaged}
        there = {place.published for place in self.places.values()}
        known = np.isin(texts, np.array(texts)[toy.data["text"].valid == 1])  # some valid row has that text
        np.testing.assert_array_equal(found, known if version in whole else known & found)
        assert (vectors is None) == (not found.any())
        assert version in there or not found.any()
        for text, vector in zip(np.array(texts)[found], () if vectors is None else vectors, strict=True):
            of_text = (np.array(texts) == text) & (toy.data["text"].valid == 1)
            assert (toy.data["text"].features["text.pooled"][of_text] == vector).all(axis=1).any()

    @invariant()
    def work_folders_say_how_far_they_are(self) -> None:
        """What a folder says of itself is what is safe in it."""
        for name, place in self.places.items():
            if place.begun is None:
                assert unfinished(self.path(name)) is None
            elif place.open is not None or place.safe:
                done = sum(stop - start for start, stop in place.safe)
                progress = unfinished(self.path(name))
                # A damaged shard still has its name until the next pass looks into it.
                assert progress is not None and progress[0] >= done and progress[1] == N_ROWS


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1 << (at % 8)
    path.write_bytes(data)


def test_feature_store_behaves_like_its_model() -> None:
    """In 30 stories of up to 30 events, stores hold what the model says, and every fault has its name."""
    run_state_machine_as_test(StoreMachine, settings=_settings(30, 30))


@pytest.mark.nightly
def test_feature_store_behaves_like_its_model_nightly() -> None:
    """As above, 3,000 stories of up to 60 events."""
    run_state_machine_as_test(StoreMachine, settings=_settings(3000, 60))


def _settings(stories: int, events: int) -> settings:
    return settings(
        max_examples=stories,
        stateful_step_count=events,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
