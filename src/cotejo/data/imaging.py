"""Applies the declared OpenCV operations to a picture: the same function for training and for `cotejo predict`."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cotejo.errors import DataError, OperationError
from cotejo.schema.operations import (
    Canny,
    Clahe,
    EqualizeHistogram,
    GaussianBlur,
    Grayscale,
    MedianBlur,
    Normalize,
    Operation,
    Resize,
    Rotate,
    Translate,
    say_size,
)

Image = NDArray[np.uint8]

INTERPOLATIONS = {
    "nearest": cv2.INTER_NEAREST,
    "linear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "lanczos4": cv2.INTER_LANCZOS4,
}


def apply_operations(image: Image, operations: Sequence[Operation]) -> Image:
    """Applies operations in their order; the same picture gives the same bytes, alone or among others.

    Args:
        image: uint8, shape (height, width, channels), 1 or 3 channels, red first. It isn't changed.
        operations: Those of `preprocess.operations`.

    Returns:
        uint8, shape (height, width, channels), in one piece of memory; the picture itself where there is none to apply.

    Raises:
        OperationError: The picture is too small for an operation.
        DataError: It isn't a picture of this form.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3):
        raise DataError(
            expected="uint8 pixels of shape (height, width, channels) with 1 or 3 channels",
            received=f"{image.dtype} of shape {image.shape}",
        )
    # pictures are spread over workers, and OpenCV's own threads would only wait for each other
    cv2.setNumThreads(1)
    for operation in operations:
        image = _apply(image, operation)
    return np.ascontiguousarray(image)


def _apply(image: Image, operation: Operation) -> Image:
    made: Image = _TRANSFORMS[operation.name](image[..., 0] if image.shape[2] == 1 else image, operation)
    return made[..., np.newaxis] if made.ndim == 2 else made  # OpenCV has no axis for a single channel


def _resize(image: Any, operation: Resize) -> Any:  # noqa: ANN401 - OpenCV's arrays of two or three axes
    height, width = image.shape[:2]
    interpolation = INTERPOLATIONS[operation.interpolation]
    if not operation.keep_aspect:
        return cv2.resize(image, (operation.width, operation.height), interpolation=interpolation)
    scale = min(operation.height / height, operation.width / width)
    # as many pixels as fit, but never none of a very long picture
    inner_height = min(max(round(height * scale), 1), operation.height)
    inner_width = min(max(round(width * scale), 1), operation.width)
    inner = cv2.resize(image, (inner_width, inner_height), interpolation=interpolation)
    above, left = (operation.height - inner_height) // 2, (operation.width - inner_width) // 2
    below, right = operation.height - inner_height - above, operation.width - inner_width - left
    padding = _fill(operation.pad_value)
    return cv2.copyMakeBorder(inner, above, below, left, right, cv2.BORDER_CONSTANT, value=padding)


def _grayscale(image: Any, _: Grayscale) -> Any:  # noqa: ANN401
    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def _equalize_histogram(image: Any, _: EqualizeHistogram) -> Any:  # noqa: ANN401
    return _change_luma(image, cv2.equalizeHist)


def _clahe(image: Any, operation: Clahe) -> Any:  # noqa: ANN401
    _check_reaches(image, operation.tiles, "clahe", "tiles")
    clahe = cv2.createCLAHE(operation.clip_limit, (operation.tiles, operation.tiles))
    return _change_luma(image, clahe.apply)


def _gaussian_blur(image: Any, operation: GaussianBlur) -> Any:  # noqa: ANN401
    _check_reaches(image, operation.kernel_size, "gaussian_blur", "kernel_size")
    return cv2.GaussianBlur(image, (operation.kernel_size, operation.kernel_size), operation.sigma)


def _median_blur(image: Any, operation: MedianBlur) -> Any:  # noqa: ANN401
    _check_reaches(image, operation.kernel_size, "median_blur", "kernel_size")
    return cv2.medianBlur(image, operation.kernel_size)


def _canny(image: Any, operation: Canny) -> Any:  # noqa: ANN401
    return cv2.Canny(
        image, operation.low, operation.high, apertureSize=operation.aperture_size, L2gradient=operation.l2_gradient
    )


def _rotate(image: Any, operation: Rotate) -> Any:  # noqa: ANN401
    height, width = image.shape[:2]
    # the centre of the pixels, so that a quarter turn of a square picture moves each pixel onto another
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), operation.angle, 1.0)
    interpolation = INTERPOLATIONS[operation.interpolation]
    padding = _fill(operation.pad_value)
    return cv2.warpAffine(
        image, matrix, (width, height), flags=interpolation, borderMode=cv2.BORDER_CONSTANT, borderValue=padding
    )


def _translate(image: Any, operation: Translate) -> Any:  # noqa: ANN401
    height, width = image.shape[:2]
    moved = np.full_like(image, operation.pad_value)
    right, down = operation.right, operation.down
    kept = image[max(-down, 0) : max(height - down, 0), max(-right, 0) : max(width - right, 0)]
    if not kept.size:
        raise OperationError(
            expected=f"a picture of which translate by right {right} and down {down} leaves some",
            received=f"{say_size(image.shape[:2])} (width x height)",
            advice="Declare a resize before it in preprocess.operations, or a shorter way",
        )
    top, left = max(down, 0), max(right, 0)
    moved[top : top + kept.shape[0], left : left + kept.shape[1]] = kept
    return moved


def _normalize(image: Any, operation: Normalize) -> Any:  # noqa: ANN401
    low, high = np.percentile(image, (operation.low, operation.high))
    if low == high:
        return image
    shades = np.rint((np.arange(256) - low) * (255 / (high - low))).clip(0, 255).astype(np.uint8)
    return cv2.LUT(image, shades)


_TRANSFORMS: dict[str, Any] = {
    "resize": _resize,
    "grayscale": _grayscale,
    "equalize_histogram": _equalize_histogram,
    "clahe": _clahe,
    "gaussian_blur": _gaussian_blur,
    "median_blur": _median_blur,
    "canny": _canny,
    "rotate": _rotate,
    "translate": _translate,
    "normalize": _normalize,
}


def _change_luma(image: Any, change: Any) -> Any:  # noqa: ANN401
    """Changes the brightness and leaves the colours: equalised one by one, channels would change the hue."""
    if image.ndim == 2:
        return change(image)
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)
    luma[..., 0] = change(np.ascontiguousarray(luma[..., 0]))
    return cv2.cvtColor(luma, cv2.COLOR_YCrCb2RGB)


def _check_reaches(image: Any, least: int, name: str, parameter: str) -> None:  # noqa: ANN401
    if least > min(image.shape[:2]):
        raise OperationError(
            expected=f"a picture of at least {least}x{least} pixels for {name} with {parameter} {least}",
            received=f"{say_size(image.shape[:2])} (width x height)",
            advice=f"Declare a resize before it in preprocess.operations, or a smaller {parameter}",
        )


def _fill(shade: int) -> tuple[int, int, int]:
    return (shade, shade, shade)
