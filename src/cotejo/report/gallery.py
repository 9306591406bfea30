"""Test images in the page: small pictures inside the file, each with what it is and what the models take it for."""

import base64
import io
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cotejo.comparison.records import Comparison, GalleryImage

Pixels = NDArray[np.uint8]
#: Longest side in pixels; a larger picture would only make the file large.
LONGEST_SIDE = 112


class GalleryPicture(NamedTuple):
    """A test image as the page shows it.

    Attributes:
        shown: What it is and what the models take it for.
        address: A data URI, so that no request leaves the page.
        width: In pixels.
        height: In pixels.
    """

    shown: GalleryImage
    address: str
    width: int
    height: int


class Gallery(NamedTuple):
    """Pictures of one kind.

    Attributes:
        kind: errors: of `model`, the most confident ones; disagreements: those that only `model` has right.
        model: The model.
        pictures: In their order; none where there is no such image.
    """

    kind: str
    model: str
    pictures: tuple[GalleryPicture, ...]


def build_galleries(comparison: Comparison, images: Mapping[int, Pixels]) -> list[Gallery]:
    """Lists the galleries: what only the one has right, then the other, then the errors of both, then of the rest.

    Args:
        comparison: The comparison.
        images: By index a test image, uint8 of shape (height, width, channels); one that is missing isn't shown.
    """
    chosen = (comparison.candidate, comparison.baseline)
    only_right: dict[str, list[GalleryImage]] = {name: [] for name in chosen}
    for shown in comparison.disagreements:
        only_right[next(name for name in chosen if shown.predicted[name] == shown.true_class)].append(shown)
    others = [name for name in comparison.errors if name not in chosen]
    rows: list[tuple[str, str, Any]] = [("disagreements", name, only_right[name]) for name in chosen]
    rows += [("errors", name, comparison.errors[name]) for name in (*chosen, *others)]
    return [
        Gallery(kind, name, tuple(_draw(item, images[item.index]) for item in shown if item.index in images))
        for kind, name, shown in rows
    ]


def _draw(shown: GalleryImage, pixels: Pixels) -> GalleryPicture:
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    code = base64.b64encode(buffer.getvalue()).decode("ascii")
    return GalleryPicture(shown, f"data:image/png;base64,{code}", image.width, image.height)
