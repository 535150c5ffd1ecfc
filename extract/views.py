"""Views: augmented renderings of an input, seeded by its content, that become extra training rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from extract.augmentations import images, texts

if TYPE_CHECKING:
    from PIL.Image import Image

AUGMENTATIONS: tuple[str, ...] = ("light", "strong")


def describe(augment: str, modality: str) -> dict[str, Any]:
    """Return everything that decides a view, apart from the input and the number of the view.

    Parameters
    ----------
    augment : {"light", "strong"}
    modality : {"text", "image", "joint"}

    Returns
    -------
    dict
        Plain JSON values; it belongs in the fingerprint of the space. For ``"joint"`` the parts ``text`` and
        ``image``.

    Raises
    ------
    ValueError
        If a name is not known.
    """
    _check(augment)
    if modality == "text":
        return texts.describe_texts(augment)
    if modality == "image":
        return images.describe_images(augment)
    if modality == "joint":
        return {"text": texts.describe_texts(augment), "image": images.describe_images(augment)}
    raise ValueError(f"Modality {modality!r} is not known; views are made of text, image or joint inputs.")


def image_view(image: Image, *, augment: str, seed: bytes, view: int) -> Image:
    """Render one view of an RGB picture; see `extract.augmentations.images.image_view`."""
    _check(augment)
    return images.image_view(image, augment=augment, seed=seed, view=view)


def text_view(text: str, *, augment: str, seed: bytes, view: int) -> str:
    """Render one view of a text; see `extract.augmentations.texts.text_view`."""
    _check(augment)
    return texts.text_view(text, augment=augment, seed=seed, view=view)


def _check(augment: str) -> None:
    if augment not in AUGMENTATIONS:
        raise ValueError(f"Augmentation {augment!r} is not known; allowed are {', '.join(AUGMENTATIONS)}.")
