"""A folder of images in class folders: what it holds, in one look at it."""

import json
import os
import stat
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cotejo.data.checks import list_some, raise_faults
from cotejo.data.decoding import SUFFIXES, show_path
from cotejo.data.splits import SPLITS
from cotejo.errors import DataError

#: Pictures in formats that we don't decode. To skip them like notes would lose images without a word.
OTHER_PICTURES = frozenset(
    (
        ".tif",
        ".tiff",
        ".heic",
        ".heif",
        ".avif",
        ".jxl",
        ".jp2",
        ".svg",
        ".psd",
        ".ico",
        ".tga",
        ".ppm",
        ".pgm",
        ".raw",
        ".dng",
        ".nef",
        ".cr2",
        ".arw",
    )
)
#: Images that aren't where a class's images are, which is said: that they don't count may not be meant.
NESTED = "images in folders within a class's folder"
STRAY = "images outside of a class's folder"
#: What others call the splits.
OTHER_NAMES = {"training": "train", "validation": "val", "valid": "val", "dev": "val", "testing": "test"}
#: What a folder may say of itself, in words of its own.
SOURCE_FILE = "source.json"
SOURCE_KEYS = ("title", "homepage", "licence")


class ImageFile(NamedTuple):
    """A file and its class."""

    path: Path
    label: int


class Listing(NamedTuple):
    """Content of a folder.

    Attributes:
        class_names: Names of the class folders in NFC, sorted by code point: the same on every file system.
        splits: Files by `train`, `val` and `test`, or all under `""`; by class, then by name in NFC.
        skipped: What was left alone, by kind: `hidden`, a suffix, `no suffix`, ...
        source: Title, home page and licence as far as the folder's `source.json` says them.
    """

    class_names: tuple[str, ...]
    splits: Mapping[str, Sequence[ImageFile]]
    skipped: Mapping[str, int]
    source: Mapping[str, str]


class _Contents(NamedTuple):
    folders: list[Path]
    images: list[Path]


def list_directory(root: Path) -> Listing:
    """Lists the images of `train/<class>/*`, `test/<class>/*` and perhaps `val/<class>/*`, or of `<class>/*`.

    Raises:
        DataError: All that is wrong with the layout, a line each.
    """
    return _Lister(root).list_all()


class _Lister:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.skipped: Counter[str] = Counter()
        self.faults: list[str] = []

    def list_all(self) -> Listing:
        if not self.root.is_dir():
            received = "a file" if self.root.exists() else "no such folder"
            raise DataError(
                where="data.path",
                expected="a folder of images",
                received=f"{show_path(self.root)}, {received}",
                advice="Correct the path in params.yaml; it counts from the study's folder",
            )
        if self.root.is_absolute() and self.root.resolve().is_relative_to(Path.cwd().resolve()):
            within = self.root.resolve().relative_to(Path.cwd().resolve())
            raise DataError(
                where="data.path",
                expected="a folder within the study by its path from there",
                received=show_path(self.root),
                advice=f"Write {show_path(within)}: dvc.lock has to hold for other machines too",
            )
        if Path.cwd().resolve().is_relative_to(self.root.resolve()):
            raise DataError(
                where="data.path",
                expected="a folder of images",
                received=f"{show_path(self.root)}, which holds the study itself",
                advice="Put the images into a folder of their own",
            )
        source = self._read_source()
        top = self._look_into(self.root)
        parts = {folder.name: folder for folder in top.folders if folder.name in SPLITS}
        # a class may be called train, as among vehicles: then it holds no folders
        if any(self._look_into(folder, count=False).folders for folder in parts.values()):
            found = self._list_splits(top, parts)
        else:
            self.skipped[STRAY] += len(top.images)
            self._check_meant(top.folders)
            found = {"": self._list_classes(top.folders)}
        class_names = tuple(sorted({name for files in found.values() for name in files}))
        self._check_counts(found, class_names)
        raise_faults(self.root, self.faults)
        splits = {
            split: [ImageFile(path, label) for label, name in enumerate(class_names) for path in files.get(name, ())]
            for split, files in found.items()
        }
        return Listing(class_names, splits, dict(sorted((+self.skipped).items())), source)

    def _check_meant(self, folders: Sequence[Path]) -> None:
        """Refuses what is not a level of classes, but nearly one of the layouts; raises a hint in place of a guess."""
        holders = [folder for folder in folders if self._look_into(folder, count=False).folders]
        meant = {folder.name: _read_split(folder.name) for folder in holders}
        splits = {name: split for name, split in meant.items() if split in SPLITS}
        if len(splits) > 1:  # one alone may be a class of that name
            received, hint = list_some([show_path(name) for name in splits]), ", ".join(splits.values())
            fault = f"expected train, test and perhaps val. Received: {received}. Did you mean {hint}? Rename them."
            raise_faults(self.root, [fault])
        if len(folders) == len(holders) == 1:
            fault = (
                "expected a folder for each of two or more classes, in it or in its train and test. Received: one "
                f"folder, {show_path(folders[0].name)}, with folders in it. Did you mean data.path: "
                f"{show_path(folders[0])}?"
            )
            raise_faults(self.root, [fault])
        if folders and all(_read_split(folder.name) in SPLITS for folder in folders):
            names = list_some([show_path(folder.name) for folder in folders])
            fault = (
                f"expected a folder for each class. Received: {names}, which name splits; the level of the classes is "
                "missing. Put each class's images into a folder of its name, such as train/cat and test/cat."
            )
            raise_faults(self.root, [fault])

    def _list_splits(self, top: _Contents, parts: Mapping[str, Path]) -> dict[str, dict[str, list[Path]]]:
        others = [show_path(folder.name) for folder in top.folders if folder.name not in SPLITS]
        meant = [_read_split(name) for name in others]
        if others and set(meant) <= set(SPLITS) - set(parts):
            self.faults.append(
                f"expected train, test and perhaps val. Received: {list_some(others)} beside them. Did you mean "
                f"{', '.join(meant)}? Rename."
            )
        elif others:
            self.faults.append(
                f"expected train, test and perhaps val. Received: {list_some(others)} beside them. "
                "Rename it to val if that is what it is, or move it elsewhere."
            )
        for name in ("train", "test"):
            if name not in parts:
                self.faults.append(
                    f"expected train and test. Received: no {name}. Make it, or have one split off: "
                    f"data.path: {show_path(self.root / next(iter(parts)))}."
                )
        self.skipped[STRAY] += len(top.images)
        found = {}
        for name in SPLITS:
            if name in parts:
                contents = self._look_into(parts[name])
                self.skipped[STRAY] += len(contents.images)
                found[name] = self._list_classes(contents.folders)
        return found

    def _list_classes(self, folders: Sequence[Path]) -> dict[str, list[Path]]:
        """Lists the images of each class by its name in NFC."""
        found: dict[str, list[Path]] = {}
        spelled: defaultdict[str, list[str]] = defaultdict(list)
        for folder in folders:
            name = unicodedata.normalize("NFC", folder.name)
            spelled[name].append(show_path(folder.relative_to(self.root)))
            if any("\ud800" <= mark <= "\udfff" for mark in name):
                self.faults.append(
                    f"expected class names in Unicode. Received: {show_path(folder.name)}. Rename the folder."
                )
            contents = self._look_into(folder)
            self.skipped[NESTED] += sum(map(_count_images, contents.folders))
            found[name] = contents.images
        for paths in spelled.values():
            if len(paths) > 1:
                self.faults.append(
                    f"expected a folder per class. Received: {' and '.join(map(ascii, paths))}, the same name in two "
                    "spellings of its accents. Move the images into one of them."
                )
        return found

    def _check_counts(self, found: Mapping[str, Mapping[str, Sequence[Path]]], class_names: Sequence[str]) -> None:
        if len(class_names) < 2:
            named = f"one class, {show_path(class_names[0])}" if class_names else "none"
            self.faults.append(
                f"expected a folder for each of two or more classes, in it or in its train and test. Received: {named}."
                f"{self._say_skipped()} See docs/data.md for the layouts."
            )
            return
        for split, classes in found.items():
            # one for each split that is made of it
            needed = 3 if split == "" else 2 if split == "train" and "val" not in found else 1
            few = {name: len(classes.get(name, ())) for name in class_names if len(classes.get(name, ())) < needed}
            if few:
                where = f" in {split}" if split else ""
                named = list_some([f"{show_path(name)} with {count}" for name, count in few.items()])
                splits = {1: "", 2: ", for train and val", 3: ", for train, val and test"}[needed]
                self.faults.append(
                    f"expected {needed} or more images of each class{where}{splits}. Received: {named}."
                    f"{self._say_skipped()} Add images, or remove the class{' from every split' if split else ''}."
                )

    def _say_skipped(self) -> str:
        skipped = +self.skipped
        return f" Left alone: {', '.join(f'{kind} ({skipped[kind]})' for kind in sorted(skipped))}." if skipped else ""

    def _look_into(self, folder: Path, *, count: bool = True) -> _Contents:
        """Lists a folder's folders and images, sorted; counts what is neither."""
        contents = _Contents([], [])
        try:
            entries = sorted(os.scandir(folder), key=_order)
        except OSError as error:
            raise DataError(where=show_path(folder), expected="a folder to read", received=error.strerror) from error
        for entry in entries:
            kind = self._tell(entry, contents)
            if count and kind:
                self.skipped[kind] += 1
        return contents

    def _tell(self, entry: os.DirEntry[str], contents: _Contents) -> str:
        """Files an entry, or returns what kind of other thing it is."""
        path, suffix = Path(entry.path), Path(entry.name).suffix.lower()
        if entry.name.startswith("."):
            return "hidden"
        if entry.is_dir(follow_symlinks=False):
            contents.folders.append(path)
            return ""
        mode = stat.S_IFREG if entry.is_file(follow_symlinks=False) else _find_mode(path)
        if stat.S_ISDIR(mode):
            # DVC doesn't look into it: another image there would re-run nothing
            raise DataError(
                where=show_path(path),
                expected="a folder",
                received="a link to one, into which DVC doesn't look",
                advice="Put the folder itself there; data.path may be a link",
            )
        if suffix not in SUFFIXES | OTHER_PICTURES:
            return suffix if suffix else "no suffix"
        if mode and not stat.S_ISREG(mode):
            return "neither file nor folder"
        contents.images.append(path)  # a link to nothing will be named as a file that can't be read
        return ""

    def _read_source(self) -> dict[str, str]:
        path = self.root / SOURCE_FILE
        if not path.is_file():
            return {}
        self.skipped[path.suffix] -= 1  # which the look at its folder counts
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            words = {key: told[key] for key in SOURCE_KEYS if key in told}
            if not isinstance(told, dict) or not all(isinstance(word, str) for word in words.values()):
                raise TypeError
        except (ValueError, TypeError, OSError) as error:
            raise DataError(
                where=show_path(path),
                expected=f"JSON with {', '.join(SOURCE_KEYS)} as text",
                received="something else",
                advice="Mend or remove it",
            ) from error
        return words


def _read_split(name: str) -> str:
    """Returns the split that a folder's name means, if it means one."""
    return OTHER_NAMES.get(name.lower(), name.lower())


def _find_mode(path: Path) -> int:
    """Returns what a path leads to, as `stat` says it; 0 of a link that leads nowhere or in a circle."""
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def _count_images(folder: Path) -> int:
    """Counts the images in a folder and in those below it, without hidden ones."""
    count = 0
    for _, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        images = (name for name in names if Path(name).suffix.lower() in SUFFIXES | OTHER_PICTURES)
        count += sum(not name.startswith(".") for name in images)
    return count


def _order(entry: os.DirEntry[str]) -> tuple[str, str]:
    """Sorts by code points in NFC; file systems differ in order, and one of them in spelling."""
    return unicodedata.normalize("NFC", entry.name), entry.name
