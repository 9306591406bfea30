"""Images to the three splits, in one pass: decoded, checked, changed and written, several at a time."""

import ctypes
import json
import math
import os
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from cotejo.data.checks import Checks, Place
from cotejo.data.collection import Collection, Sample, count_classes
from cotejo.data.decoding import Pixels, convert_color, decode_image, estimate_memory, has_color, show_path
from cotejo.data.duplicates import Fingerprint, compute_fingerprint, find_near_pairs, identify
from cotejo.data.imaging import apply_operations
from cotejo.data.splits import SPLITS
from cotejo.data.writing import SplitWriter, Written
from cotejo.errors import ImageError, OperationError
from cotejo.files import digest_bytes
from cotejo.schema.images import Data
from cotejo.schema.operations import Operation, dump_operations

T = TypeVar("T")
Made = TypeVar("Made")
Color = Literal["grey", "rgb"]
#: In the order in which they are read: what is in two splits stays in the first (see `Checks`).
READING_ORDER = ("test", "val", "train")
#: What preprocess takes of `runtime.memory_limit` without large images, measured: Python, OpenCV, MLflow's client.
BASE_BYTES = 500_000_000
#: M_MMAP_THRESHOLD of glibc's malloc.h.
MMAP_THRESHOLD = -3


class Read(NamedTuple):
    """A decoded image: its pixels after the operations, and facts about it as it was before them."""

    pixels: Pixels
    size: tuple[int, int]  # width and height
    identity: bytes
    fingerprint: Fingerprint


class NearDouble(NamedTuple):
    """Two images of different splits that look alike: where they stand, and their difference as a share of contrast."""

    first: Place
    second: Place
    difference: float


class Prepared(NamedTuple):
    """Result of preparing.

    Attributes:
        description: The content of `dataset.json`.
        checks: Counts of the checks.
        sizes: Images by width and height, as decoded.
        color: `grey` or `rgb`, as it was found or declared.
        near_doubles: Pairs of images in two splits that look alike, the nearest first.
    """

    description: dict[str, Any]
    checks: Checks
    sizes: Counter[tuple[int, int]]
    color: Color
    near_doubles: Sequence[NearDouble]

    def count_images(self) -> dict[str, int]:
        """Returns how many images there are in each split, and how many were left out and why."""
        tables: Mapping[str, Any] = self.description["splits"]
        return {
            **{f"{split}_samples": table["num_samples"] for split, table in tables.items()},
            "duplicates_removed": self.checks.dropped.total(),
            "near_duplicates": len(self.near_doubles),
            "unreadable_files": len(self.checks.unread),
        }


def prepare_images(
    collection: Collection,
    data: Data,
    operations: Sequence[Operation],
    folder: Path,
    workers: int,
    memory_limit: int | None = None,
) -> Prepared:
    """Writes `{train,val,test}_{images,labels}.npy` and `dataset.json`, the same bytes with any number of workers.

    Args:
        collection: The images.
        data: Colour, and what is done about duplicates and unreadable files.
        operations: What is done to each image.
        folder: An existing folder.
        workers: Threads; 0 is one for each processor that this process may use. OpenCV and Pillow work in parallel.
        memory_limit: Bytes that the process may take, so that fewer large images are read in parallel; one is always
            read, and the first that may take more is named on stderr. None is no bound.

    Raises:
        DataError: What would spoil the study; a line per fault.
    """
    if memory_limit is not None:
        _give_back_memory()
    color = _find_color(collection, data.color)
    checks = Checks(Path(data.path), collection.class_names, data, is_published=collection.is_published)
    sizes: Counter[tuple[int, int]] = Counter()
    fingerprints = []
    places = []
    with ExitStack() as stack:
        writers = {split: stack.enter_context(SplitWriter(folder, split)) for split in READING_ORDER}
        for place, read in _read_all(collection, color, operations, workers or count_processors(), memory_limit):
            if isinstance(read, ImageError):
                checks.note_unread(place, read.reason)
                continue
            if isinstance(read, OperationError):
                checks.note_unworkable(place, str(read))
                if checks.is_hopeless:
                    break
                continue
            sizes[read.size] += 1
            if checks.admit(place, read.identity, read.pixels.shape):
                writers[place.split].append(read.pixels, place.label)
                fingerprints.append(read.fingerprint)
                places.append(place)
            if checks.is_hopeless:
                break
        num_classes = len(collection.class_names)
        checks.check({split: count_classes(writers[split].labels, num_classes) for split in SPLITS})
        written = {split: writers[split].finish() for split in SPLITS}
    description = _describe(collection, data, color, operations, written, checks.shape)
    text = json.dumps(description, indent=2, ensure_ascii=False) + "\n"
    (folder / "dataset.json").write_text(text, encoding="utf-8")
    pairs = find_near_pairs(fingerprints, [READING_ORDER.index(place.split) for place in places])
    near = [NearDouble(places[pair.first], places[pair.second], pair.difference) for pair in pairs]
    return Prepared(description, checks, sizes, color, near)


def map_side_by_side(
    function: Callable[[T], Made],
    items: Iterable[T],
    workers: int,
    measure: Callable[[T], int] = lambda _: 0,
    room: float = math.inf,
) -> Iterator[tuple[T, Made]]:
    """Yields each item with a function's result for it, in order; computes a few ahead, in threads.

    Args:
        function: What is done; must not depend on the others.
        items: Taken one by one, as room is made.
        workers: Threads.
        measure: How much room an item needs, from its start until it is given.
        room: What those that run or wait may need together; an item that needs more runs alone.
    """
    with ThreadPoolExecutor(workers, "images") as pool:
        ahead: deque[tuple[T, int, Future[Made]]] = deque()
        try:
            for item in items:
                needed = measure(item)
                while ahead and (len(ahead) > 2 * workers or needed + sum(taken for _, taken, _ in ahead) > room):
                    first, _, made = ahead.popleft()
                    yield first, made.result()
                ahead.append((item, needed, pool.submit(function, item)))
            for first, _, made in ahead:
                yield first, made.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _read_all(
    collection: Collection, color: Color, operations: Sequence[Operation], workers: int, memory_limit: int | None
) -> Iterator[tuple[Place, Read | ImageError | OperationError]]:
    samples = ((split, sample) for split in READING_ORDER for sample in collection.splits[split])

    def read(item: tuple[str, Sample]) -> Read | ImageError | OperationError:
        try:
            return _read(item[1], color, operations)
        except (ImageError, OperationError) as error:
            return error

    bound = () if memory_limit is None else (_MemoryEstimate(memory_limit), memory_limit - BASE_BYTES)
    for (split, sample), made in map_side_by_side(read, samples, workers, *bound):
        yield Place(split, sample.label, sample.name), made


def _give_back_memory() -> None:
    """Returns to the system what Pillow frees: otherwise each thread keeps up to 16 bytes a pixel of its last image."""
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if set_option:  # glibc's alone
        set_option(MMAP_THRESHOLD, 1 << 20)


class _MemoryEstimate:
    """Estimates the bytes that a sample takes; warns of the first that may take more than there are."""

    def __init__(self, memory_limit: int) -> None:
        self.memory_limit, self.has_warned = memory_limit, False

    def __call__(self, item: tuple[str, Sample]) -> int:
        name, _, content = item[1]
        needed = estimate_memory(content) if isinstance(content, Path) else content.nbytes
        if needed + BASE_BYTES > self.memory_limit and not self.has_warned:
            self.has_warned = True
            print(
                f"preprocess: {show_path(name)} alone may take {(needed + BASE_BYTES) / 1e9:.2f} GB, more than "
                f"runtime.memory_limit, {self.memory_limit / 1e9:.2f} GB; such images are read one at a time. "
                "Make them smaller, or raise the limit.",
                file=sys.stderr,
            )
        return needed


def _read(sample: Sample, color: Color, operations: Sequence[Operation]) -> Read:
    image = decode_image(sample.content) if isinstance(sample.content, Path) else sample.content
    image = convert_color(image, color)
    height, width, _ = image.shape
    return Read(apply_operations(image, operations), (width, height), identify(image), compute_fingerprint(image))


def _find_color(collection: Collection, declared: Literal["auto", "grey", "rgb"]) -> Color:
    if declared != "auto":
        return declared
    contents = (sample.content for split in READING_ORDER for sample in collection.splits[split])
    # up to the first in colour, and of a file no more than its header
    return "rgb" if any(map(_is_colored, contents)) else "grey"


def _is_colored(content: Path | Pixels) -> bool:
    if isinstance(content, Path):
        if not has_color(content):
            return False
        try:
            content = decode_image(content)  # a file that is left out doesn't decide for the others
        except ImageError:
            return False
    is_colored: bool = content.shape[-1] == 3
    return is_colored


def _describe(
    collection: Collection,
    data: Data,
    color: Color,
    operations: Sequence[Operation],
    written: Mapping[str, Written],
    shape: Sequence[int],
) -> dict[str, Any]:
    """Returns the content of `dataset.json`; of images as they were published, neither colour nor operations."""
    table = {
        split: {
            "num_samples": len(labels),
            "per_class": dict(zip(collection.class_names, _count(labels, collection), strict=True)),
            "digest": digest,
        }
        for split, (labels, digest) in written.items()
    }
    description = {
        "name": collection.name,
        "class_names": list(collection.class_names),
        "image_shape": list(shape),
        "digest": digest_bytes(*(written[split].digest.encode() for split in SPLITS)),
        "splits": table,
        "source": collection.source,
    }
    # before an operation that makes one channel of any, how many there were can't be told from the shape
    if not collection.is_published or data.color != "auto" or operations:
        description["color"] = color
    if operations:
        description["operations"] = dump_operations(operations)
    return description


def _count(labels: Any, collection: Collection) -> list[int]:  # noqa: ANN401 - NumPy's
    return count_classes(labels, len(collection.class_names))


def count_processors() -> int:
    """Returns how many processors this process may use, which are fewer than the machine's in a container."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
