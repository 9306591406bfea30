"""Checks of the images before anything is trained: what would spoil a study is reported with names and advice."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cotejo.data.decoding import show_path
from cotejo.errors import DataError
from cotejo.schema.images import Data
from cotejo.schema.operations import say_size

#: So many are named; of the others the number is said.
SHOWN = 5
#: So many images that don't fit are enough to know it.
ENOUGH = 100
#: Pixels of the longest side of an advised resize: what most backbones were trained on. Photos are far larger.
STUDY_SIDE = 224


def list_some(names: Sequence[str], count: int = 0) -> str:
    """Returns the first names and how many more there are.

    Args:
        names: The names, or the first of them.
        count: How many there are in all, if more than the names.
    """
    more = max(count, len(names)) - SHOWN
    return "; ".join(names[:SHOWN]) + (f"; and {more:,} more" if more > 0 else "")


def raise_faults(root: Path | str, faults: Sequence[str]) -> None:
    """Raises what was found as one error, a line per fault; returns if there is none."""
    if not faults:
        return
    if len(faults) == 1:
        raise DataError(f"{show_path(root)}: {faults[0]}")
    raise DataError(f"{show_path(root)} has {len(faults)} faults; nothing was written.\n  " + "\n  ".join(faults))


class Place(NamedTuple):
    """Place of an image: its split, its class, and its name in messages."""

    split: str
    label: int
    name: str


class Checks:
    """Decides image by image what comes in, and at the end whether all is well.

    Images come test first, then val, then train: an image that is in two splits stays in the one that comes first,
    and training never sees what it is tested on.

    Args:
        root: The folder, for messages.
        class_names: In label order.
        data: The policies.
        is_published: Whether what can't be mended is let through and counted: a published set with two labels for
            an image is a fact of it.

    Attributes:
        unread: The images that can't be read, each with what was found in its place.
        doubles: Images that are in two splits, by the two splits, the one that is read first behind.
        inner_doubles: Images that are twice in a split, by split.
        dropped: Images left out because another split has them, by split.
        examples: The images that are in two splits: both names.
        conflicts: The images that are there twice with different labels: both names, both classes.
    """

    def __init__(self, root: Path, class_names: Sequence[str], data: Data, *, is_published: bool) -> None:
        self.root, self.class_names, self.data, self.is_published = root, class_names, data, is_published
        self.unread: list[str] = []
        self.doubles: Counter[tuple[str, str]] = Counter()
        self.inner_doubles: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.examples: list[tuple[str, str]] = []
        self.conflicts: list[tuple[str, str]] = []
        self._unworkable: list[str] = []
        self._first_unworkable = ""
        self._num_offered: Counter[str] = Counter()
        self.shape: tuple[int, ...] = ()
        self._first_shaped = ""
        self._misfits: Counter[tuple[int, ...]] = Counter()
        self._first_misfits: dict[tuple[int, ...], str] = {}
        self._seen: dict[bytes, Place] = {}

    @property
    def is_hopeless(self) -> bool:
        """Whether reading more images would only find more of the same."""
        return self._misfits.total() + len(self._unworkable) >= ENOUGH

    def note_unread(self, place: Place, reason: str) -> None:
        """Counts an image that can't be read."""
        self.unread.append(f"{show_path(place.name)} ({reason})")

    def note_unworkable(self, place: Place, reason: str) -> None:
        """Counts an image to which an operation can't be applied, which is no fault of the file."""
        self._unworkable.append(show_path(place.name))
        self._first_unworkable = self._first_unworkable or reason

    def admit(self, place: Place, identity: bytes, shape: tuple[int, ...]) -> bool:
        """Returns whether an image is let in.

        Args:
            place: Where it stands.
            identity: A digest of its pixels as they were decoded.
            shape: Height, width and channels after the operations.
        """
        self.shape, self._first_shaped = self.shape or shape, self._first_shaped or place.name
        if shape != self.shape:
            self._misfits[shape] += 1
            self._first_misfits.setdefault(shape, place.name)
            return False
        self._num_offered[place.split] += 1
        first = self._seen.setdefault(identity, place)
        if first is place:
            return True
        if first.label != place.label:
            self.conflicts.append((self._say(first), self._say(place)))
        if first.split == place.split:
            self.inner_doubles[place.split] += 1
            return True
        self.doubles[place.split, first.split] += 1
        self.examples.append((show_path(place.name), show_path(first.name)))
        if self.data.duplicates == "drop":
            self.dropped[place.split] += 1
            return False
        return True

    def check(self, per_class: dict[str, list[int]]) -> None:
        """Raises all that was found.

        Args:
            per_class: Images of each class that came in, by split.

        Raises:
            DataError: Something would spoil the study; a line per fault.
        """
        found = (
            self._find_unread,
            self._find_unworkable,
            self._find_misfits,
            self._find_conflicts,
            self._find_doubles,
        )
        faults = [fault for find in found for fault in find()]
        # where much was refused, that a class has no image left says nothing
        raise_faults(self.root, faults or self._find_emptied(per_class))

    def _find_unread(self) -> list[str]:
        if not self.unread or self.data.on_bad_file == "skip":
            return []
        return [
            f"expected images as JPEG, PNG, BMP, WebP or GIF. Received: {_say_count(len(self.unread), 'file')} that "
            f"can't be read: {list_some(self.unread)}. Mend or remove them, or leave them out with "
            "data.on_bad_file: skip."
        ]

    def _find_unworkable(self) -> list[str]:
        if not self._unworkable:
            return []
        received = _say_count(len(self._unworkable), "image")
        reading = ", and reading stopped there" if self.is_hopeless else ""
        return [
            f"expected images to which preprocess.operations can be applied. Received: {received} to which they "
            f"can't{reading}: {list_some(self._unworkable)}. "
            f"Of the first: {self._first_unworkable}"
        ]

    def _find_misfits(self) -> list[str]:
        if not self._misfits:
            return []
        received = [
            f"{say_size(shape)} ({count:,}, {show_path(self._first_misfits[shape])} the first)"
            for shape, count in self._misfits.most_common(SHOWN)
        ]
        height, width = _scale_down(*self.shape[:2])
        reading = ", and reading stopped there" if self.is_hopeless else ""
        return [
            f"expected images of one size, such as {say_size(self.shape)} (width x height) of "
            f"{show_path(self._first_shaped)}. Received: {list_some(received, len(self._misfits))}{reading}. "
            "Add to preprocess.operations: "
            f"{{name: resize, height: {height}, width: {width}, interpolation: area, keep_aspect: true, pad_value: 0}}."
        ]

    def _find_conflicts(self) -> list[str]:
        if not self.conflicts or self.is_published:
            return []
        pairs = [f"{first} and {second}" for first, second in self.conflicts]
        return [
            f"expected one class for each picture. Received: {_say_count(len(self.conflicts), 'time')} the same pixels "
            f"in two classes: {list_some(pairs)}. Keep the right one."
        ]

    def _find_doubles(self) -> list[str]:
        count = self.doubles.total()
        if not count or self.data.duplicates != "fail":
            return []
        pairs = [f"{first} is {second}" for first, second in self.examples]
        return [
            f"expected each picture in one split. Received: {_say_count(count, 'picture')} in two, pixel by pixel: "
            f"{list_some(pairs, count)}. Remove them, or have it done with data.duplicates: drop."
        ]

    def _find_emptied(self, per_class: dict[str, list[int]]) -> list[str]:
        faults = []
        for split, counts in per_class.items():
            if self.dropped[split] == self._num_offered[split] > 0:
                faults.append(
                    f"expected pictures of its own in {split}. Received: {self._num_offered[split]:,}, all of which "
                    f"{' or '.join(first for second, first in self.doubles if second == split)} has, pixel by pixel: "
                    "the splits are the same pictures. Put others into one of them, or remove it."
                )
                continue
            names = [show_path(self.class_names[label]) for label, count in enumerate(counts) if not count]
            if names:
                faults.append(
                    f"expected images of every class in {split}. Received: none of {list_some(names)}, without what "
                    f"can't be read ({len(self.unread):,} in all) or is in another split "
                    f"({self.dropped[split]:,} of {split}). Add images."
                )
        return faults

    def _say(self, place: Place) -> str:
        return f"{show_path(place.name)} ({show_path(self.class_names[place.label])})"


def _say_count(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _scale_down(height: int, width: int) -> tuple[int, int]:
    """Returns a size for a study, in the image's proportions."""
    scale = min(STUDY_SIDE / max(height, width), 1)
    return max(round(height * scale), 1), max(round(width * scale), 1)
