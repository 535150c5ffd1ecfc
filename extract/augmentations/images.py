"""Augmented views of a picture: crop, flip, rotation and colour; ``strong`` adds shear, blur, erasing."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from extract.augmentations.draws import Draws

if TYPE_CHECKING:
    from PIL.Image import Image

#: Raised when the same arguments would give other pixels; it enters the fingerprint of stored views.
VERSION = 1


@dataclass(frozen=True)
class ImageRecipe:
    """How far a view may be from the picture.

    Attributes
    ----------
    shorter_side, longer_side : int
        A larger picture is shrunk to these first, in pixels: networks look at 224 to 384, and the cost of
        the rest grows with the pixels.
    area : (float, float)
        Share of the picture that the crop keeps.
    aspect : float
        The crop is stretched by up to this factor, either way, when it is given the picture's shape.
    flip : float
        Chance of mirroring left and right.
    degrees : float
        Largest rotation either way. It shrinks in proportion for pictures longer than 2 : 1, whose ends
        would otherwise leave the frame.
    shift : float
        Largest shift, as a share of each side.
    zoom : float
        Largest change of scale either way, 0.1 = 10 %.
    shear : float
        Largest horizontal and vertical shear in degrees; shrinks as `degrees` does.
    brightness, contrast, saturation : float
        Largest relative change either way.
    hue : float
        Largest turn of the hue circle either way, in full turns.
    blur : float
        Chance of a Gaussian blur.
    blur_radius : (float, float)
        Its standard deviation, as a share of the shorter side.
    sharpness : float
        Chance of changed sharpness.
    sharpness_factor : (float, float)
        0 is blurred, 1 is unchanged.
    erase : float
        Chance that one rectangle is painted over with the mean colour.
    erase_area : (float, float)
        Its share of the picture.
    """

    shorter_side: int = 512
    longer_side: int = 2048
    area: tuple[float, float] = (0.7, 1.0)
    aspect: float = 1.1
    flip: float = 0.5
    degrees: float = 15.0
    shift: float = 0.0
    zoom: float = 0.0
    shear: float = 0.0
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.02
    blur: float = 0.0
    blur_radius: tuple[float, float] = (0.0, 0.0)
    sharpness: float = 0.0
    sharpness_factor: tuple[float, float] = (1.0, 1.0)
    erase: float = 0.0
    erase_area: tuple[float, float] = (0.0, 0.0)


RECIPES = {
    "light": ImageRecipe(),
    "strong": ImageRecipe(
        area=(0.6, 1.0),
        aspect=1.25,
        shift=0.05,
        zoom=0.1,
        shear=8.0,
        brightness=0.25,
        contrast=0.3,
        saturation=0.4,
        hue=0.04,
        blur=0.3,
        blur_radius=(0.001, 0.008),
        sharpness=0.3,
        sharpness_factor=(0.3, 2.5),
        erase=0.5,
        erase_area=(0.02, 0.08),
    ),
}


def describe_images(augment: str) -> dict[str, Any]:
    """Return every parameter of a recipe, and what carries it out, as plain JSON values."""
    facts = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(RECIPES[augment]).items()}
    return {
        "recipe": augment,
        "version": VERSION,
        "library": "torchvision.transforms.v2.functional on Pillow images",
        "resampling": "bicubic sizes, bilinear rotation",
        "border": "mirrored",
        "draws": "PCG64 of sha256(recipe, content, view)",
        **facts,
    }


def image_view(image: Image, *, augment: str, seed: bytes, view: int) -> Image:
    """Render one view of a picture.

    Parameters
    ----------
    image : PIL.Image.Image
        RGB, any size from 1 x 1. Not changed.
    augment : {"light", "strong"}
    seed : bytes
        Content hash of the picture.
    view : int
        From 1.

    Returns
    -------
    PIL.Image.Image
        RGB, in the picture's shape; the shorter side has at most 512 pixels, the longer 2,048.

    Raises
    ------
    ValueError
        If the picture is not RGB, or the view or the seed is not allowed.

    Notes
    -----
    Everything works on Pillow's 8-bit pixels, in one thread: a tensor path would start torch's own threads
    below the reader threads of the pass, and its float convolutions may round differently from one number
    of threads to the next.
    """
    if image.mode != "RGB":
        raise ValueError(
            f"A view is made of an RGB picture, but this one is {image.mode!r}; convert it first."
        )
    recipe = RECIPES[augment]
    draws = Draws(f"image-{augment}-{VERSION}", seed, view)
    seen = _turn(_shrink(image, recipe), recipe, draws)  # before the crop: most of its corners lie outside
    seen = _recolour(_crop(seen, recipe, draws), recipe, draws)
    return _damage(seen, recipe, draws)


def _shrink(image: Image, recipe: ImageRecipe) -> Image:
    """Return the picture within the recipe's limits; a side never falls below one pixel."""
    from PIL.Image import Resampling

    sides = recipe.shorter_side / min(image.size), recipe.longer_side / max(image.size)
    scale = min(1.0, *sides)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    # A box filter brings very large pictures within three times the size first: a third of the time.
    return image.resize(size, Resampling.BICUBIC, reducing_gap=3.0)


def _turn(image: Image, recipe: ImageRecipe, draws: Draws) -> Image:
    """Rotate, shift, zoom and shear in one resampling.

    What comes in from outside is the picture mirrored at its border: a black or white corner would be a mark
    that every view has and no clean picture does.
    """
    from torchvision.transforms.v2 import InterpolationMode, functional

    width, height = image.size
    steady = min(1.0, 2.0 * min(width, height) / max(width, height))
    angle = draws.around(0.0, recipe.degrees * steady)
    shift = [draws.around(0.0, recipe.shift * width), draws.around(0.0, recipe.shift * height)]
    zoom = math.exp(draws.around(0.0, math.log1p(recipe.zoom)))
    shear = [draws.around(0.0, recipe.shear * steady), draws.around(0.0, recipe.shear * steady)]
    across, down = _margins(width, height, angle, shift, zoom, shear)
    wide = functional.pad(image, [across, down], padding_mode="symmetric")
    turned = functional.affine(
        wide, angle, [round(shift[0]), round(shift[1])], zoom, shear, InterpolationMode.BILINEAR
    )
    framed: Image = functional.crop(turned, down, across, height, width)
    return framed


def _margins(
    width: int, height: int, angle: float, shift: list[float], zoom: float, shear: list[float]
) -> tuple[int, int]:
    """Return how far outside the frame its corners come from: an upper bound in pixels, across and down."""
    turn = math.sin(math.radians(abs(angle)))
    slant_x, slant_y = (math.tan(math.radians(abs(s))) for s in shear)
    # The inverse map is (unshear)(unrotate)(unshift) / zoom; products of two small terms stay below `cross`.
    cross = 1.0 + slant_x * slant_y + turn * (slant_x + slant_y)
    spread = turn + slant_x + slant_y
    x = ((width / 2 + abs(shift[0])) * cross + (height / 2 + abs(shift[1])) * spread) / zoom
    y = ((height / 2 + abs(shift[1])) * cross + (width / 2 + abs(shift[0])) * spread) / zoom
    return max(0, math.ceil(x - width / 2)) + 2, max(0, math.ceil(y - height / 2)) + 2


def _crop(image: Image, recipe: ImageRecipe, draws: Draws) -> Image:
    """Cut out a part, stretch it to the shape of the whole without enlarging it, and mirror it or not."""
    from torchvision.transforms.v2 import InterpolationMode, functional

    share = draws.between(*recipe.area)
    stretch = math.exp(draws.around(0.0, math.log(recipe.aspect)))
    width = _part(image.width, math.sqrt(share * stretch))
    height = _part(image.height, math.sqrt(share / stretch))
    left, top = draws.below(image.width - width + 1), draws.below(image.height - height + 1)
    size = [_part(image.height, math.sqrt(share)), _part(image.width, math.sqrt(share))]
    seen: Image = functional.resized_crop(image, top, left, height, width, size, InterpolationMode.BICUBIC)
    if draws.happens(recipe.flip):
        seen = functional.horizontal_flip(seen)
    return seen


def _part(length: int, share: float) -> int:
    return min(length, max(1, round(length * share)))


def _recolour(image: Image, recipe: ImageRecipe, draws: Draws) -> Image:
    """Change brightness, contrast, saturation and hue, in random order as torchvision's ColorJitter does."""
    from torchvision.transforms.v2 import functional

    changes = [
        (functional.adjust_brightness, draws.around(1.0, recipe.brightness)),
        (functional.adjust_contrast, draws.around(1.0, recipe.contrast)),
        (functional.adjust_saturation, draws.around(1.0, recipe.saturation)),
        (functional.adjust_hue, draws.around(0.0, recipe.hue)),
    ]
    for i in draws.order(len(changes)):
        change, amount = changes[i]
        image = change(image, amount)
    return image


def _damage(image: Image, recipe: ImageRecipe, draws: Draws) -> Image:
    """Blur, sharpen and erase, each with its chance."""
    from PIL import ImageFilter
    from torchvision.transforms.v2 import functional

    if draws.happens(recipe.blur):
        # Pillow's blur: torchvision's would convert to float tensors and back.
        radius = draws.between(*recipe.blur_radius) * min(image.size)
        image = image.filter(ImageFilter.GaussianBlur(radius))
    if draws.happens(recipe.sharpness):
        image = functional.adjust_sharpness(image, draws.between(*recipe.sharpness_factor))
    if draws.happens(recipe.erase):
        image = _erase(image, draws.between(*recipe.erase_area), draws)
    return image


def _erase(image: Image, share: float, draws: Draws) -> Image:
    """Paint one rectangle in the picture's mean colour; a picture too small to have one stays as it is."""
    from PIL import ImageStat

    stretch = math.exp(draws.around(0.0, math.log(2.0)))
    width = round(image.width * math.sqrt(share * stretch))
    height = round(image.height * math.sqrt(share / stretch))
    if not (0 < width < image.width and 0 < height < image.height):
        return image
    left, top = draws.below(image.width - width + 1), draws.below(image.height - height + 1)
    red, green, blue = (round(mean) for mean in ImageStat.Stat(image).mean)
    erased = image.copy()
    erased.paste((red, green, blue), (left, top, left + width, top + height))
    return erased
