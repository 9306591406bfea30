"""Images made worse on purpose: noise, blur, brightness, contrast and translation, each in five severities."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

#: What a corruption takes at severities 1 to 5. The first four are those of CIFAR-10-C, the benchmark for small images
#: of Hendrycks and Dietterich (2019), Benchmarking neural network robustness to common corruptions and perturbations,
#: arXiv:1903.12261, as their make_cifar_c.py has them. Translation isn't among theirs; its strengths are our own.
STRENGTHS: Mapping[str, tuple[float, float, float, float, float]] = {
    "noise": (0.04, 0.06, 0.08, 0.09, 0.10),  # standard deviation, pixels from 0 to 1
    "blur": (0.4, 0.6, 0.7, 0.8, 1.0),  # sigma in pixels of a 32-pixel image
    "brightness": (0.05, 0.10, 0.15, 0.20, 0.30),  # added to pixels from 0 to 1
    "contrast": (0.75, 0.50, 0.40, 0.30, 0.15),  # what is left of each pixel's distance from the mean
    "translation": (0.04, 0.07, 0.10, 0.14, 0.18),  # share of height and of width: 1 to 5 pixels of 28
}
CORRUPTIONS = tuple(STRENGTHS)
SEVERITIES = (1, 2, 3, 4, 5)
#: Ways in which an image is corrupted.
NUM_CORRUPTED = len(CORRUPTIONS) * len(SEVERITIES)
#: The side that the strengths of blur are meant for.
REFERENCE_SIZE = 32

Pixels = NDArray[np.float32]


def corrupt(
    images: NDArray[np.uint8], corruption: str, severity: int, seed: int, indices: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Corrupts images.

    What is drawn for an image depends on the corruption, the seed and its index, and on no other image. It is the same
    at all severities, so that they differ in strength alone: the same noise, only louder. As in CIFAR-10-C, but pixels
    are rounded where they cut fractions off, and grey images are taken as well.

    Args:
        images: Shape (num_images, height, width, channels), grey or colour.
        corruption: One of `CORRUPTIONS`.
        severity: 1 (weakest) to 5.
        seed: Seed of what is drawn.
        indices: Which images of their split they are, shape (num_images,).

    Returns:
        uint8 array of the same shape.
    """
    strength = STRENGTHS[corruption][severity - 1]
    if corruption == "translation":
        return _translate(images, strength, seed, indices)
    pixels = images.astype(np.float32) / np.float32(255)
    if corruption == "noise":
        changed = _add_noise(pixels, strength, seed, indices)
    else:
        changed = CHANGES[corruption](pixels, strength)
    return np.rint(np.clip(changed, 0, 1) * 255).astype(np.uint8)


def _draw(corruption: str, seed: int, index: int) -> np.random.Generator:
    return np.random.default_rng([seed, CORRUPTIONS.index(corruption), index])


def _add_noise(pixels: Pixels, deviation: float, seed: int, indices: NDArray[np.int64]) -> Pixels:
    noise = [_draw("noise", seed, index).standard_normal(pixels.shape[1:], dtype=np.float32) for index in indices]
    return pixels + np.float32(deviation) * np.stack(noise)


def _blur(pixels: Pixels, sigma: float) -> Pixels:
    """Blurs by a Gaussian that grows with larger images; in smaller ones it would be narrower than a pixel."""
    scale = max(1.0, min(pixels.shape[1:3]) / REFERENCE_SIZE)
    blurred: Pixels = ndimage.gaussian_filter(pixels, sigma * scale, mode="nearest", axes=(1, 2))
    return blurred


def _brighten(pixels: Pixels, added: float) -> Pixels:
    """Adds to the value of HSV, the brightest channel; hue and saturation stay, so that grey remains grey."""
    value = pixels.max(axis=3, keepdims=True)
    brighter = np.minimum(value + np.float32(added), 1)
    # black has no hue: it becomes grey
    ratio = brighter / np.where(value > 0, value, np.float32(1))
    brightened: Pixels = np.where(value > 0, pixels * ratio, brighter)
    return brightened


def _flatten(pixels: Pixels, kept: float) -> Pixels:
    """Draws each pixel towards the mean of its image and channel."""
    # in float64, image by image: the order of a sum must not depend on how many images there are
    means = np.stack([image.mean(axis=(0, 1), keepdims=True, dtype=np.float64) for image in pixels]).astype(np.float32)
    return (pixels - means) * np.float32(kept) + means


def _translate(images: NDArray[np.uint8], share: float, seed: int, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Moves each image along both axes by whole pixels, at least one, in one of four directions.

    The border's pixels are repeated into what is left empty: black would be a second corruption of a coloured image.
    """
    height, width = images.shape[1:3]
    moved = np.empty_like(images)
    for place, index in enumerate(indices):
        down, right = _draw("translation", seed, index).choice((-1, 1), size=2)
        rows = np.arange(height) - down * max(1, round(share * height))
        columns = np.arange(width) - right * max(1, round(share * width))
        moved[place] = images[place][np.ix_(rows.clip(0, height - 1), columns.clip(0, width - 1))]
    return moved


#: Those that draw nothing.
CHANGES: Mapping[str, Callable[[Pixels, float], Pixels]] = {
    "blur": _blur,
    "brightness": _brighten,
    "contrast": _flatten,
}
