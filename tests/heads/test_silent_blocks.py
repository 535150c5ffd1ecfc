"""Blocks that say nothing about the labels: what finds them, and what heads do without them."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import f1_score

from heads import FUSIONS, MLPHead, load_model, make_pipeline, save_model
from heads.differentiable import differentiable
from heads.silent_blocks import screened_rows, silent_blocks

WIDTHS = (6, 9)
SLICES = [slice(0, 6), slice(6, 15)]
BLOCKS = {"text": 6, "image": 9}


def _blocks(kind: str, n_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw two standard normal blocks and two classes that some of their columns make."""
    random = np.random.default_rng(seed)
    Z = random.normal(size=(n_rows, sum(WIDTHS)))
    of_image = {"nothing": 0.0, "image": Z[:, 6], "inside": 2 * Z[:, 6] * Z[:, 7], "xor": 0.0}[kind]
    of_both = 2 * Z[:, 0] * Z[:, 6] if kind == "xor" else Z[:, 0]
    y = (of_both + of_image + 0.3 * random.normal(size=n_rows) > 0).astype(np.int64)
    return Z.astype(np.float32), y


def _slow_silent_blocks(Z, codes, slices):
    """The definition, by every deal of a block to the rows and every pair of rows."""
    n = len(Z)
    shares = np.bincount(codes) / n
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    labels = {(i, j): (codes[i] == codes[j]) / shares[codes[i]] - 1 for i, j in pairs}
    like = [{(i, j): Z[i, c] @ Z[j, c] / (c.stop - c.start) for i, j in pairs} for c in slices]
    speaks = []
    for own in range(len(slices)):
        others = {p: sum(part[p] for k, part in enumerate(like) if k != own) for p in pairs}
        z = []
        block = Z[:, slices[own]].astype(float)
        penalty = 0.3 * (block**2).sum() / n
        hat = block @ np.linalg.inv(block.T @ block + penalty * np.eye(block.shape[1])) @ block.T
        alike = {(i, j): hat[i, j] for i, j in pairs}
        squared = {p: value**2 for p, value in like[own].items()}
        both = {p: labels[p] * others[p] for p in pairs}
        for likeness, wanted in ((like[own], labels), (alike, labels), (squared, labels), (like[own], both)):
            deals = [
                sum(likeness[deal[i], deal[j]] * wanted[i, j] for i, j in pairs)
                for deal in permutations(range(n))
            ]
            z.append((deals[0] - np.mean(deals)) / np.std(deals))  # the first deal is how the rows lie
        speaks.append(max(z) > 2.5)
    return ~np.array(speaks) if any(speaks) else np.zeros(len(slices), dtype=bool)


def test_silent_blocks_equal_the_definition():
    """Closed forms of mean and variance give the answer of all deals, counted one by one."""
    answers = set()
    for seed in range(6):
        random = np.random.default_rng(seed)
        codes = np.array([0, 0, 0, 1, 1, 1])
        Z = random.normal(size=(6, 5))
        Z[:, 0] += 4.0 * codes  # a block of one column speaks as loud as six rows can
        slices = [slice(0, 1), slice(1, 3), slice(3, 5)]
        found = silent_blocks(Z, codes, slices)
        assert_array_equal(found, _slow_silent_blocks(Z, codes, slices))
        answers.add(tuple(found.tolist()))
    assert len(answers) > 1


@pytest.mark.parametrize(
    ("kind", "silent"),
    [
        ("nothing", [False, True]),
        ("image", [False, False]),
        ("inside", [False, False]),
        ("xor", [False, False]),
    ],
)
def test_block_speaks_alone_by_products_and_with_the_other(kind, silent):
    """Heard are columns, products of columns within a block, and products across blocks; noise is not."""
    for seed in range(5):
        assert silent_blocks(*_blocks(kind, 600, seed), SLICES).tolist() == silent, seed


def test_dealt_block_is_rarely_heard():
    """Of blocks that say nothing one in ten at most is heard: among 40 to 700 rows, with rare classes too."""
    heard = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        n_rows = int(random.integers(40, 700))
        y = random.permutation(np.arange(n_rows) % 10)
        codes = np.select([y < 6, y < 7], [0, 1], 2)
        spectrum = 1 / np.sqrt(1 + np.arange(40.0))  # a few directions are most of an embedding
        useless = random.normal(size=(n_rows, 40)) * spectrum
        useful = random.normal(size=(n_rows, 5)) + 2.0 * np.eye(5)[codes]
        heard += not silent_blocks(np.hstack([useful, useless]), codes, [slice(0, 5), slice(5, 45)])[1]
    assert heard <= 6


def test_quiet_columns_are_heard_beside_loud_directions():
    """Three columns that tell the classes, beside 64 directions of much variance that do not, are heard."""
    for seed in range(3):
        random = np.random.default_rng(seed)
        y = random.choice(3, size=1000, p=[0.6, 0.1, 0.3])
        blocks = []
        for _ in range(2):
            loud = random.normal(size=(1000, 64)) @ random.normal(size=(64, 200)) * 3 / 8
            quiet = np.hstack([4.0 * np.eye(3)[y], np.zeros((1000, 197))])
            blocks.append(random.normal(size=(1000, 200)) + loud + quiet)
        Z = np.hstack(blocks)
        Z = ((Z - Z.mean(axis=0)) / Z.std(axis=0)).astype(np.float32)
        assert silent_blocks(Z, y, [slice(0, 200), slice(200, 400)]).tolist() == [False, False]


def test_silent_blocks_with_nothing_to_prefer():
    """One block, blocks that all say nothing, and rows too few to deal, are left as they are."""
    Z, y = _blocks("nothing", 300, 0)
    dealt = np.random.default_rng(1).permutation(y)
    assert silent_blocks(Z, y, [slice(0, 15)]).tolist() == [False]
    assert silent_blocks(Z, dealt, SLICES).tolist() == [False, False]
    assert silent_blocks(Z[:3], np.array([0, 1, 1]), SLICES).tolist() == [False, False]


def test_block_without_spread_is_silent():
    """A block that is constant in the training rows says nothing, without a warning."""
    Z, y = _blocks("nothing", 300, 0)
    Z[:, 6:] = 0.0
    assert silent_blocks(Z, y, SLICES).tolist() == [False, True]


def test_many_rows_are_heard_in_parts():
    """Rows beyond one part add to what a block says: what 500 rows do not show is found in 16,000."""
    random = np.random.default_rng(0)
    y = random.integers(0, 2, 16_000)
    Z = random.normal(size=(16_000, 60))
    Z[:, 0] += 3.0 * y
    Z[:, 1:] += 0.025 * y[:, None]
    slices = [slice(0, 1), slice(1, 60)]
    assert silent_blocks(Z[:500], y[:500], slices).tolist() == [False, True]
    assert silent_blocks(Z, y, slices).tolist() == [False, False]


def test_screened_rows_are_an_ascending_choice():
    """Up to 16,384 rows are looked at; of more as many, the same ones for the same number of rows."""
    few, many = np.arange(3, 900), np.arange(10, 100_010)
    assert_array_equal(screened_rows(few), few)
    chosen = screened_rows(many)
    assert len(chosen) == 16_384
    assert (np.diff(chosen) > 0).all()
    assert set(chosen) <= set(many)
    assert_array_equal(screened_rows(many + 5), chosen + 5)


# What heads do without a silent block.


def _fit(X, y, *, blocks=None, **settings):
    small = {"hidden": 8, "projection_width": 8, "max_epochs": 4, "learning_rate": 3e-3, "random_state": 3}
    return MLPHead(blocks=blocks or BLOCKS, **{**small, **settings}).fit(X, y)


@pytest.mark.parametrize("settings", [{}, {"pca": 4}, {"resampler": "smote", "n_members": 2}], ids=str)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_head_without_a_silent_block_is_the_head_of_the_others(fusion, settings):
    """A block that says nothing costs exactly nothing: probabilities are those of the head of the others."""
    X, y = _blocks("nothing", 400, 0)
    head = _fit(X, y, fusion=fusion, **settings)
    alone = _fit(X[:, :6], y, blocks={"text": 6}, fusion=fusion, **settings)
    assert head.silent_blocks_ == ["image"]
    assert alone.silent_blocks_ == []
    assert_allclose(head.predict_proba(X), alone.predict_proba(X[:, :6]), atol=1e-12)
    assert _fit(X, y, fusion=fusion, screen_blocks=False, **settings).silent_blocks_ == []


@pytest.mark.parametrize("fusion", ["concat", "attention"])
def test_blocks_that_speak_are_left_as_they_are(fusion):
    """Where every block says something, a head is the one without the screen, to the last bit."""
    X, y = _blocks("xor", 600, 1)
    first, second = (_fit(X, y, fusion=fusion, screen_blocks=screen) for screen in (True, False))
    assert first.silent_blocks_ == []
    assert_array_equal(first.predict_proba(X), second.predict_proba(X))


def test_silent_block_weighs_nothing():
    """Weights of blocks have a place for the silent one, and it is 0; layers are those of the others."""
    X, y = _blocks("nothing", 400, 0)
    X = np.hstack([X, X[:, :1] + 1.0]).astype(np.float32)
    blocks = {"text": 6, "image": 9, "title": 1}
    shapes = {"weighted_sum": (400, 3), "gated": (400, 3, 8), "attention": (400, 4, 3, 3)}
    for fusion, shape in shapes.items():
        head = _fit(X, y, blocks=blocks, fusion=fusion)
        assert head.silent_blocks_ == ["image"]
        assert head.fusion_weights_.shape == (head.n_epochs_, 3)
        for weights in (head.fusion_weights_, head.sample_fusion_weights(X)):
            assert_array_equal(weights[:, 1], 0.0)
            assert_allclose(weights.sum(axis=1), 1.0, atol=1e-6)
        detail = head.sample_fusion_weights(X, detail=True)
        assert detail.shape == shape
        assert not (detail[:, :, 1] if fusion == "attention" else detail[:, 1]).any()
        assert not detail[..., 1].any() or fusion == "gated"
        assert head.layer_outputs(X)["fused"].shape == (400, 8)


@pytest.mark.parametrize("pca", [None, 3])
def test_model_without_a_silent_block_survives_the_disk(tmp_path, pca):
    """A saved model answers the same, says which block is silent, and its gradient there is 0."""
    X, y = _blocks("nothing", 400, 0)
    pipeline = make_pipeline("mlp", blocks=BLOCKS, parameters={"max_epochs": 2, "hidden": 8, "pca": pca})
    pipeline.fit(X, y)
    save_model(pipeline, tmp_path, classes=["no", "yes"])
    model = load_model(tmp_path)
    assert_array_equal(model.predict_proba(X), pipeline.predict_proba(X))
    assert model._estimator.silent_blocks_ == ["image"]
    rows = torch.from_numpy(X[:5].astype(np.float64)).requires_grad_(True)
    answer = differentiable(pipeline["head"])(rows)
    assert_allclose(answer.detach(), pipeline.predict_proba(X[:5]), atol=1e-12)
    answer[:, 1].sum().backward()
    assert rows.grad[:, :6].any()
    assert not rows.grad[:, 6:].any()


def test_silent_block_is_found_among_clean_rows():
    """Views of a row are not rows of their own: they do not make a block speak that says nothing."""
    X, y = _blocks("nothing", 200, 2)
    views = [np.arange(200)] * 6  # a block is heard the better the more often a row is repeated
    rows = np.concatenate([np.arange(200), *views])
    noise = np.random.default_rng(0).normal(size=(len(rows), 15)).astype(np.float32) / 100
    told = _fit(X, y).silent_blocks_
    pipeline = make_pipeline("mlp", blocks=BLOCKS, parameters={"max_epochs": 1, "validation_fraction": 0.0})
    pipeline.fit(X[rows] + noise, y[rows], head__sample_origin=rows)
    unaware = MLPHead(max_epochs=1, validation_fraction=0.0, blocks=BLOCKS).fit(X[rows] + noise, y[rows])
    assert told == pipeline["head"].silent_blocks_ == ["image"]
    assert unaware.silent_blocks_ == []


def test_screen_learns_nothing_from_permuted_labels():
    """With labels dealt to the rows, screened heads score chance on other rows."""
    X, _ = _blocks("nothing", 1200, 0)
    scores = []
    for seed in range(8):
        y = np.random.default_rng(seed).integers(0, 2, 1200)
        head = _fit(X[:800], y[:800], random_state=seed)
        scores.append(f1_score(y[800:], head.predict(X[800:]), average="macro"))
    assert abs(np.mean(scores) - 0.5) < 0.04


@pytest.mark.parametrize("fusion", FUSIONS)
def test_wide_useless_block_costs_a_fusion_nothing(fusion):
    """On 400 rows no fusion loses more than 0.02 macro-F1 to 600 columns that say nothing (mean of two)."""
    alone, both = [], []
    for seed in range(2):
        random = np.random.default_rng(seed)
        y = random.permutation(np.arange(1000) % 10)
        codes = np.select([y < 6, y < 7], [0, 1], 2)
        text = (random.normal(size=(1000, 60)) + random.normal(size=(3, 60))[codes] * 0.4).astype(np.float32)
        X = np.hstack([text, random.normal(size=(1000, 600)).astype(np.float32)])
        settings = {"fusion": fusion, "hidden": 32, "projection_width": 32, "max_epochs": 8}
        for scores, columns, blocks in (
            (alone, slice(0, 60), {"text": 60}),
            (both, slice(0, 660), {"text": 60, "image": 600}),
        ):
            head = _fit(X[:400, columns], codes[:400], blocks=blocks, random_state=seed, **settings)
            scores.append(f1_score(codes[400:], head.predict(X[400:, columns]), average="macro"))
    assert np.mean(both) > np.mean(alone) - 0.02
