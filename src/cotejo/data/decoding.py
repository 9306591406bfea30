"""Image files to pixels: one rule for preprocess and for predict."""

import re
import threading
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from cotejo.errors import ImageError

Pixels = NDArray[np.uint8]
#: What is decoded, by content: a PNG named .jpg is read as the PNG that it is.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF")
#: Names that say that a file should be one of these.
SUFFIXES = frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".gif"))
#: A small file can declare any size. Pillow's own limit, at which it warns, and a quarter of a gigabyte in colour.
MAX_PIXELS = 89_478_485
#: Bytes a pixel at the most, measured: reading takes 10 (JPEG) to 19 (RGBA), of WebP 28; finding edges in colour 22.
#: What was made of the image before is still there beside it: 3, or 1 of edges.
PEAK_BYTES = 22 + 1
PEAK_BYTES_WEBP = 28 + 3
#: Factors with which Pillow stretches grey of 2 and 4 bits to 8, but not the shade that its file calls transparent.
STRETCH = {"L;2": 85, "L;4": 17}
#: Modules that warn of what is odd in a file, such as EXIF data that can't be read.
OF_PILLOW = re.compile(r"PIL\.")
_silencing = threading.Lock()


def decode_image(path: Path) -> Pixels:
    """Reads an image file.

    The first frame of an animation; turned as the camera's EXIF says; what is transparent lies over white; a palette's
    colours; of 16 bits the upper 8, so that 0 to 65535 becomes 0 to 255.

    Args:
        path: JPEG, PNG, BMP, WebP or GIF, told by content.

    Returns:
        uint8 of shape (height, width, channels): 1 channel for a file in grey, also one whose palette is grey, else 3.

    Raises:
        ImageError: Empty, damaged, another format or too large; a `DataError`, in one line.
    """
    _silence_pillow()
    try:
        with _open(path) as image:
            is_grey = _is_grey(image)
            _stretch_transparency(image)
            image.load()
            ImageOps.exif_transpose(image, in_place=True)  # a photo takes 36 MB, and each copy as much
            pixels = _flatten(image, is_grey=is_grey)
    except Exception as error:
        # a decoder meets a damaged file with whatever it stumbles over, struct.error and SyntaxError among them
        raise ImageError(show_path(path), _say(path, error)) from error
    return pixels


def has_color(path: Path) -> bool:
    """Returns whether `decode_image` would return three channels, by the file's header; False if it can't be read."""
    _silence_pillow()
    try:
        with _open(path) as image:
            return not _is_grey(image)
    except Exception:  # noqa: BLE001 - `decode_image` says what is wrong with it
        return False


def estimate_memory(path: Path) -> int:
    """Estimates from a file's header the bytes that it takes to read an image and work on it; 0 if it can't be read."""
    _silence_pillow()
    try:
        with _open(path) as image:
            return image.width * image.height * (PEAK_BYTES_WEBP if image.format == "WEBP" else PEAK_BYTES)
    except Exception:  # noqa: BLE001 - `decode_image` says what is wrong with it
        return 0


def convert_color(image: Pixels, color: Literal["grey", "rgb"]) -> Pixels:
    """Converts an image to the number of channels that a study works with.

    Args:
        image: uint8 of shape (height, width, channels), 1 or 3 channels.
        color: `grey` weighs red, green and blue as ITU-R 601-2 does, rounded; `rgb` repeats grey three times.

    Returns:
        uint8 of shape (height, width, 1 or 3).
    """
    if color == "rgb":
        return image if image.shape[-1] == 3 else np.repeat(image, 3, axis=-1)
    return image if image.shape[-1] == 1 else np.asarray(Image.fromarray(image).convert("L"))[..., np.newaxis]


def show_path(path: Path | str) -> str:
    """Returns a path as one line of text: what can't be printed, or isn't Unicode, is escaped."""
    return "".join(mark if mark.isprintable() else ascii(mark)[1:-1] for mark in str(path))


def _silence_pillow() -> None:
    """Keeps Pillow from writing its own lines on stderr: a picture that can't be used is refused in one of ours.

    For good, since `warnings.catch_warnings` in threads undoes what another one has set.
    """
    with _silencing:
        if not any(action == "ignore" and where == OF_PILLOW for action, _, _, where, _ in warnings.filters):
            warnings.filterwarnings("ignore", module=OF_PILLOW.pattern)


def _open(path: Path) -> Image.Image:
    image = Image.open(path, formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise Image.DecompressionBombError
    return image


def _is_grey(image: Image.Image) -> bool:
    """Returns whether the file is in colour by what stands before its pixels, whatever colours these have."""
    if image.mode == "P":
        if image.palette is None:
            return True  # Pillow takes the numbers for shades then
        # `getpalette` would decode all of the file; a BMP has BGRX, where the fourth is no colour
        step, colors = len(image.palette.rawmode or image.palette.mode), image.palette.palette
        colors = colors[: len(colors) // step * step]
        return colors[0::step] == colors[1::step] == colors[2::step]
    return image.mode in ("1", "L", "LA") or image.mode.startswith("I")


def _stretch_transparency(image: Image.Image) -> None:
    tiles = getattr(image, "tile", None)  # how the pixels are packed
    factor = STRETCH.get(str(tiles[0].args)) if tiles else None
    if factor and "transparency" in image.info:
        image.info["transparency"] *= factor


def _flatten(image: Image.Image, *, is_grey: bool) -> Pixels:
    if image.mode.startswith("I"):  # 16 bits a pixel
        deep = np.asarray(image)
        if "transparency" in image.info:
            deep = np.where(deep == image.info["transparency"], 0xFFFF, deep)
        return (deep >> 8).astype(np.uint8)[..., np.newaxis]
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    mode = "L" if is_grey and image.mode in ("1", "L") else "RGB"
    pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    if pixels.ndim == 2:
        return pixels[..., np.newaxis]
    # of a grey palette, or grey over white, the three are the same
    return np.ascontiguousarray(pixels[..., :1]) if is_grey else pixels


def _say(path: Path, error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    try:
        if not path.stat().st_size:
            return "an empty file"
    except OSError:
        pass
    if isinstance(error, UnidentifiedImageError):
        return f"something else, {path.stat().st_size:,} bytes"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MAX_PIXELS:,} pixels"
    return show_path(f"a damaged one, {str(error).splitlines()[0] if str(error) else type(error).__name__}")
