"""One forward on a GPU: bytes become the network's numbers, threads take turns, memory comes back."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image

from extract.backbones.device_forwards import run_forward
from extract.backbones.pixel_inputs import PixelInputs
from extract.backbones.pixels import PixelRecipe
from extract.registry import backbone_names, find_card
from tests.kit.pretended_gpu import GpuThread, pretended_gpu

PATIENCE = 60  # seconds, for threads that must meet; none of the tests waits for it


def recipes() -> dict[str, PixelRecipe]:
    """Return the recipe of every registered backbone whose pixels are rounded to bytes, once each."""
    found = {}
    for name in backbone_names():
        card = find_card(name)
        if "image" in card.modalities and card.resize_mode != "dynamic":
            found[PixelRecipe.from_card(card, odd_margin="down")] = name
    return {name: recipe for recipe, name in found.items()}


RECIPES = recipes()


@pytest.mark.parametrize("name", RECIPES)
def test_a_gpu_looks_up_the_numbers_of_the_cpu_to_the_bit(name: str) -> None:
    """Bytes and a table give what float32 pixels give, rounded to the network's dtype."""
    recipe, draw = RECIPES[name], np.random.default_rng(0)
    sizes = [(300, 200), (64, 499), (recipe.crop, recipe.crop)]
    images = [Image.fromarray(draw.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]
    exact = torch.from_numpy(np.stack([recipe.apply(image) for image in images]))
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        with pretended_gpu():
            inputs = PixelInputs(recipe, device="cuda", dtype=dtype)
            squares = np.stack([inputs.prepare(image) for image in images])
            found = inputs.numbers(torch.from_numpy(squares).to("cuda")).cpu()
        assert squares.dtype == np.uint8 and squares.shape == (3, recipe.crop, recipe.crop, 3)
        assert found.is_contiguous()
        assert found.dtype == dtype and torch.equal(found, exact.to(dtype))


def test_pixels_that_are_not_rounded_travel_as_they_are() -> None:
    """A network whose reference resizes numbers has more than 256 of them."""
    recipe = PixelRecipe(40, 32, "bilinear", (0.5, 0.4, 0.3), (0.2, 0.2, 0.3), "down", rounding="none")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8))
    with pretended_gpu():
        inputs = PixelInputs(recipe, device="cuda", dtype=torch.float16)
        pixels = inputs.prepare(image)
        found = inputs.numbers(torch.from_numpy(pixels[None]).to("cuda")).cpu()
    np.testing.assert_array_equal(pixels, recipe.apply(image))
    assert torch.equal(found[0], torch.from_numpy(pixels).half())


def doubled(values: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return a forward's vectors, and some that nobody asked for."""
    return {"pooled": values * 2, "mean": values}


def test_a_forward_on_a_gpu_returns_what_was_asked_for_in_memory_of_its_own() -> None:
    """float32 arrays that own their numbers: pinned memory is used again for the next batch."""
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    with pretended_gpu():
        found = run_forward(None, "cuda", ["pooled"], lambda x: doubled(x.half()), values)
    assert list(found) == ["pooled"] and found["pooled"].flags.owndata
    assert found["pooled"].dtype == np.float32
    np.testing.assert_array_equal(found["pooled"], values * 2)


def test_vectors_are_read_when_they_have_arrived_from_memory_that_was_pinned() -> None:
    """Copies run on while the thread goes on: read before, vectors would be those of another batch."""
    order: list[str] = []

    class Arrived:
        def __init__(self, *, blocking: bool) -> None:
            assert blocking

        def record(self, _stream: Any) -> None:
            order.append("queued")

        def synchronize(self) -> None:
            order.append("arrived")

    def noted(name: str, original: Callable[[torch.Tensor], Any]) -> Callable[[torch.Tensor], Any]:
        def call(tensor: torch.Tensor) -> Any:
            order.append(name)
            return original(tensor)

        return call

    with (
        pretended_gpu(),
        mock.patch("torch.cuda.Event", Arrived),
        mock.patch("torch.Tensor.pin_memory", noted("pinned", lambda tensor: tensor)),
        mock.patch("torch.Tensor.numpy", noted("read", torch.Tensor.numpy)),
    ):
        run_forward(None, "cuda", ["pooled"], doubled, np.ones((1, 2), dtype=np.float32))
    assert order == ["pinned", "queued", "arrived", "read"]


def in_two_threads(run: Callable[[int], Any]) -> list[Any]:
    """Call `run` with 0 and 1 in a thread each, on a GPU that is pretended already."""

    def on_gpu(number: int) -> Any:
        with GpuThread():
            return run(number)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(on_gpu, range(2)))


def test_a_thread_queues_its_forward_while_another_waits_for_its_vectors() -> None:
    """Nobody waits for a device in its turn, or the device would wait for the next batch."""
    queued = [threading.Event(), threading.Event()]

    class Done:
        """Says that a batch has come through, once the other one is queued behind it."""

        def __init__(self, *, blocking: bool) -> None:
            assert blocking, "a thread that waits must not keep a core busy"

        def record(self, _stream: Any) -> None:
            self.number = int(queued[0].is_set())
            queued[self.number].set()

        def synchronize(self) -> None:
            assert queued[1 - self.number].wait(PATIENCE)

    def run(number: int) -> dict[str, np.ndarray]:
        return run_forward(None, "cuda", ["pooled"], doubled, np.full((1, 2), number, dtype=np.float32))

    with pretended_gpu(), mock.patch("torch.cuda.Event", Done):
        found = in_two_threads(run)
    assert [vectors["pooled"].tolist() for vectors in found] == [[[0.0, 0.0]], [[2.0, 2.0]]]


def test_two_forwards_never_hold_device_memory_together() -> None:
    """One thread queues them, from the first copy to the last launch, whoever asks."""
    threads: set[str] = set()
    inside, another = threading.Lock(), threading.Event()

    def read(values: torch.Tensor) -> dict[str, torch.Tensor]:
        threads.add(threading.current_thread().name)
        if not inside.acquire(blocking=False):
            another.set()
        assert not another.wait(0.2), "two forwards at once"
        inside.release()
        return doubled(values)

    with pretended_gpu():
        in_two_threads(
            lambda _: run_forward(None, "cuda", ["pooled"], read, np.ones((2, 2), dtype=np.float32))
        )
    assert len(threads) == 1


def test_out_of_memory_leaves_nothing_on_the_device_when_the_turn_ends() -> None:
    """The error carries no frame of the forward, and unused blocks are given back before others go on."""
    held: list[weakref.ref[torch.Tensor]] = []
    alive_when_freed: list[int] = []

    def read(values: torch.Tensor) -> dict[str, torch.Tensor]:
        states = values * 2
        held.extend([weakref.ref(values), weakref.ref(states)])
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    def freed() -> None:
        alive_when_freed.append(sum(tensor() is not None for tensor in held))

    with (
        pretended_gpu(),
        mock.patch("extract.backbones.device_forwards.give_memory_back", freed),
        pytest.raises(torch.OutOfMemoryError, match=r"Tried to allocate 20\.00 GiB"),
    ):
        run_forward(None, "cuda", ["pooled"], read, np.ones((2, 2), dtype=np.float32))
    assert len(held) == 2 and alive_when_freed == [0]


def test_out_of_memory_after_the_network_leaves_nothing_either() -> None:
    """Vectors may be views of whole states: none is held while memory is given back."""
    held: list[weakref.ref[torch.Tensor]] = []
    alive_when_freed: list[bool] = []

    class Late:
        """A readout whose copy does not fit."""

        def float(self) -> torch.Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    def read(values: torch.Tensor) -> dict[str, Any]:
        states = values * 2
        held.append(weakref.ref(states))
        return {"cls": states[:, :1], "states": states, "pooled": Late()}

    def freed() -> None:
        alive_when_freed.append(held[0]() is not None)

    with (
        pretended_gpu(),
        mock.patch("extract.backbones.device_forwards.give_memory_back", freed),
        pytest.raises(torch.OutOfMemoryError, match=r"Tried to allocate 20\.00 GiB"),
    ):
        run_forward(None, "cuda", ["cls", "pooled"], read, np.ones((2, 2), dtype=np.float32))
    assert alive_when_freed == [False]


def test_other_errors_of_a_forward_are_not_memory() -> None:
    """A fault of the network comes out as it is, and the next forward has its turn."""

    def fail(_: torch.Tensor) -> dict[str, torch.Tensor]:
        raise RuntimeError("shapes do not match")

    values = np.ones((2, 2), dtype=np.float32)
    with pretended_gpu():
        with pytest.raises(RuntimeError, match="shapes do not match"):
            run_forward(None, "cuda", ["pooled"], fail, values)
        assert run_forward(None, "cuda", ["pooled"], doubled, values)["pooled"].sum() == 8
