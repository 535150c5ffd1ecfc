"""Tests of the optimiser."""

import subprocess
import sys

import torch

from heads.adamw import AdamW

TRAINED = """
import sys
import numpy as np
import heads
X = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)
head = heads.MLPHead(max_epochs=2, validation_fraction=0.0).fit(X, np.arange(60) % 3)
print(head.predict(X).shape, "torch._dynamo" in sys.modules)
"""


def test_adamw_takes_the_steps_of_torchs_own_to_the_bit() -> None:
    """Equal weights after steps whose learning rate and momentum change."""
    generator = torch.Generator().manual_seed(0)
    first = [torch.randn(7, 5, generator=generator), torch.randn(5, generator=generator)]
    own = [part.clone() for part in first]
    theirs = [part.clone().requires_grad_() for part in first]
    optimiser = AdamW(own, learning_rate=1e-2, weight_decay=0.3)
    reference = torch.optim.AdamW(theirs, lr=1e-2, weight_decay=0.3, fused=True)
    for step in range(20):
        gradients = [torch.randn(part.shape, generator=generator) for part in first]
        optimiser.learning_rate = reference.param_groups[0]["lr"] = 1e-2 / (1 + step)
        optimiser.momentum = 0.85 + 0.005 * step
        reference.param_groups[0]["betas"] = (optimiser.momentum, 0.999)
        for part, gradient in zip(theirs, gradients, strict=True):
            part.grad = gradient
        optimiser.step(gradients)
        reference.step()
    assert all(torch.equal(a, b) for a, b in zip(own, theirs, strict=True))
    assert not torch.equal(own[0], first[0])


def test_adamw_goes_on_with_other_tensors_in_place_of_its_weights() -> None:
    """Copies that take the place of the weights take the same further steps."""
    stayed, moved = torch.ones(4), torch.ones(4)
    optimisers = [AdamW([part], learning_rate=0.1, weight_decay=0.0) for part in (stayed, moved)]
    gradient = torch.tensor([1.0, -2.0, 0.5, 0.0])
    for optimiser in optimisers:
        optimiser.step([gradient])
    copy = moved.clone()
    optimisers[1].weights = [copy]
    for optimiser in optimisers:
        optimiser.step([gradient * 2])
    assert torch.equal(copy, stayed)
    assert not torch.equal(moved, stayed)


def test_training_an_mlp_does_not_load_torchs_compiler() -> None:
    """Which takes seconds, and nothing of it is used."""
    found = subprocess.run([sys.executable, "-c", TRAINED], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "(60,) False"
