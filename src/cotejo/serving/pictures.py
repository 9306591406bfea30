"""New pictures on their way to a model: found, read, and put through what its training images went through."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cotejo.data.decoding import SUFFIXES, Pixels, convert_color, decode_image, show_path
from cotejo.data.directory import OTHER_PICTURES
from cotejo.data.imaging import apply_operations
from cotejo.data.preparation import count_processors
from cotejo.errors import DataError
from cotejo.schema.operations import say_size
from cotejo.serving.facts import Facts

#: Threads that decode; more would only fill memory faster than a model empties it.
MAX_WORKERS = 8


class Fault(NamedTuple):
    """A picture that can't be classified, and why, in one line."""

    file: str
    error: str

    def __str__(self) -> str:
        return f"{self.file}: {self.error}"


class PictureListing(NamedTuple):
    """Pictures that a user's paths name.

    Attributes:
        files: The pictures in the order of the paths, those of a folder by name.
        faults: Paths that stand for none.
        skipped: Number of other files by folder.
    """

    files: list[Path]
    faults: list[Fault]
    skipped: dict[str, int]


class Picture(NamedTuple):
    """A picture as a model takes it, uint8 of its shape; or why it can't."""

    path: Path
    pixels: Pixels | None
    error: str = ""


def list_pictures(paths: Sequence[str]) -> PictureListing:
    """Lists the pictures that paths stand for; folders with all that are in them.

    In a folder, hidden files and folders and files whose name isn't a picture's are left out and counted. A file that
    is named itself is taken whatever its name.
    """
    listing = PictureListing([], [], {})
    for name in paths:
        path = Path(name)
        if not name:  # to Path it is the present folder, to a user a variable that isn't set
            listing.faults.append(Fault("''", "expected a picture or a folder. Received: an empty name."))
        elif path.is_dir():
            _list_folder(path, listing)
        elif path.is_file():
            listing.files.append(path)
        else:
            listing.faults.append(_refuse_other(path))
    return listing


def _refuse_other(path: Path) -> Fault:
    received = "neither a file nor a folder" if os.path.lexists(path) else "no such file or folder"
    return Fault(show_path(path), f"expected a picture or a folder. Received: {received}.")


def _list_folder(folder: Path, listing: PictureListing) -> None:
    def refuse(error: OSError) -> None:
        where = show_path(str(error.filename))
        listing.faults.append(Fault(where, f"expected a folder that can be read. Received: {error.strerror}."))

    found = others = 0
    for where, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            # a picture in another format is none of what a folder may hold beside pictures: it is said
            if name.startswith(".") or Path(name).suffix.lower() not in SUFFIXES | OTHER_PICTURES:
                others += 1
                continue
            found += 1
            path = Path(where, name)
            if path.is_file() or not path.exists():  # a link to nothing is said when it can't be read
                listing.files.append(path)
            else:  # a pipe would be waited for until someone writes into it
                listing.faults.append(_refuse_other(path))
    if others:
        listing.skipped[show_path(folder)] = others
    if not found:
        endings = ", ".join(sorted(SUFFIXES))
        listing.faults.append(
            Fault(show_path(folder), f"expected a folder with pictures ({endings}). Received: one without any.")
        )


def prepare_picture(path: Path, facts: Facts) -> Picture:
    """Reads a picture and does to it what was done to the model's training images.

    Args:
        path: The file.
        facts: What is known of the model.
    """
    try:
        image = decode_image(path)
        image = apply_operations(_give_channels(image, facts), facts.operations)
        _check_shape(image, facts.image_shape)
    except DataError as error:
        return Picture(path, None, str(error).removeprefix(f"{show_path(path)}: "))
    return Picture(path, image)


def stream_batches(
    files: Sequence[Path], prepare: Callable[[Path], Picture], batch_size: int
) -> Iterator[list[Picture]]:
    """Yields pictures in batches, in order, and prepares the next batch while the caller works on one.

    Never more than two batches are held, however many files there are.

    Args:
        files: The pictures.
        prepare: Reads one; called in threads.
        batch_size: Pictures a batch.
    """
    waiting = iter(files)
    with ThreadPoolExecutor(min(MAX_WORKERS, count_processors())) as pool:
        ahead: deque[list[Future[Picture]]] = deque()

        def submit() -> None:
            if batch := [pool.submit(prepare, path) for path in islice(waiting, batch_size)]:
                ahead.append(batch)

        try:
            submit()
            while ahead:
                batch = [future.result() for future in ahead.popleft()]
                submit()
                yield batch
        finally:
            for future in (future for batch in ahead for future in batch):
                future.cancel()


def _give_channels(image: Pixels, facts: Facts) -> Pixels:
    """Converts a picture to the channels that the training images had before the operations; colours are kept."""
    if facts.color is not None:
        return convert_color(image, facts.color)
    if facts.num_channels is None or image.shape[2] == facts.num_channels:
        return image
    if facts.num_channels == 3:
        return convert_color(image, "rgb")
    if (image == image[..., :1]).all():
        return np.ascontiguousarray(image[..., :1])
    raise DataError(
        expected="a picture in grey, 1 channel, as the model was trained on",
        received="one in colour, 3 channels",
        advice="Convert it to grey, or train on images in colour",
    )


def _check_shape(image: Pixels, expected: tuple[int, int, int]) -> None:
    if image.shape != expected:
        raise DataError(
            expected=f"a picture of {say_size(expected)} pixels (width x height), as the model was trained on",
            received=f"one of {say_size(image.shape)}",
            advice="Make it that size, or declare a resize in preprocess.operations and train again",
        )
