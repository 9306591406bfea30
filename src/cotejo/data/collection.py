"""The images of a study before anything is decoded: which there are, of which class, in which split."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cotejo.data.checks import list_some, raise_faults
from cotejo.data.decoding import Pixels, show_path
from cotejo.data.directory import ImageFile, Listing, list_directory
from cotejo.data.readers import LabelledImages, PublishedSplits, read_published
from cotejo.data.sources import SOURCES, check_files
from cotejo.data.splits import SPLITS, split_published
from cotejo.errors import DataError
from cotejo.schema.images import Data, Preprocess


class Sample(NamedTuple):
    """An image: how a message names it, its class, and its file or pixels."""

    name: str
    label: int
    content: Path | Pixels


class Collection(NamedTuple):
    """All images of a study.

    Attributes:
        name: Name of the data set, or of the folder.
        class_names: In label order.
        source: Title, home page, licence and the like.
        splits: The samples of train, val and test.
        skipped: What isn't an image and was left alone, by kind.
        is_published: Whether others have made it, and mending it isn't the user's.
    """

    name: str
    class_names: tuple[str, ...]
    source: Mapping[str, Any]
    splits: Mapping[str, Sequence[Sample]]
    skipped: Mapping[str, int]
    is_published: bool


class _Published(Sequence[Sample]):
    """The samples of a published split, made when they are asked for: 60,000 objects are slow to make."""

    def __init__(self, split: str, images: LabelledImages) -> None:
        self.split = split
        self.images, self.labels = images

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401 - no slice is asked for
        return Sample(f"{self.split} image {index}", int(self.labels[index]), self.images[index])

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))


def collect_images(data: Data, preprocess: Preprocess) -> Collection:
    """Finds the images that `params.yaml` declares, and splits them; decodes no file.

    Raises:
        DataError: Files of a published set are missing or others; a folder isn't laid out as one of classes.
    """
    folder = Path(data.path)
    fractions = preprocess.validation_fraction, preprocess.test_fraction, preprocess.seed
    if data.name != "directory":
        source = SOURCES[data.name]
        check_files(data.name, folder)
        published = read_published(source.file_format, folder, len(source.class_names))
        made = split_published(published, *fractions)
        splits: Mapping[str, Sequence[Sample]] = {split: _Published(split, images) for split, images in made.items()}
        described = json.loads((folder / "source.json").read_text(encoding="utf-8"))
        return Collection(data.name, source.class_names, described, splits, {}, is_published=True)
    listing = list_directory(folder)
    named = {
        split: [Sample(str(file.path.relative_to(folder)), file.label, file.path) for file in files]
        for split, files in split_listing(listing, folder, *fractions).items()
    }
    name = folder.resolve().name or data.name
    source_of_own = {"title": name, **listing.source}
    return Collection(name, listing.class_names, source_of_own, named, listing.skipped, is_published=False)


def count_classes(labels: Sequence[int], num_classes: int) -> list[int]:
    """Counts the images of each class, also of one that has none."""
    counts: list[int] = np.bincount(np.asarray(labels, np.int64), minlength=num_classes).tolist()
    return counts


def split_listing(
    listing: Listing, root: Path, validation_fraction: float, test_fraction: float, seed: int
) -> dict[str, Sequence[ImageFile]]:
    """Splits what came as one, stratified by class, as a published set is split.

    Args:
        listing: What the folder holds.
        root: The folder, for messages.
        validation_fraction: Share of the training images, where there is no `val`.
        test_fraction: Share of all images, where there is no `test`.
        seed: Seed of both splits.

    Raises:
        DataError: A class would be missing in a split.
    """
    splits = dict(listing.splits)
    if "val" not in splits:
        files = splits.pop("", None) or splits.pop("train")
        test = _count_off(splits["test"]) if "test" in splits else None
        try:
            made = split_published(PublishedSplits(_count_off(files), test), validation_fraction, test_fraction, seed)
        except DataError as error:
            raise DataError(f"{show_path(root)}: {error}") from error
        for split in SPLITS:
            if split not in splits:
                splits[split] = [files[number] for number in made[split].images.ravel().tolist()]
    raise_faults(root, _find_missing(listing, splits))
    return {split: splits[split] for split in SPLITS}


def _count_off(files: Sequence[ImageFile]) -> LabelledImages:
    """Replaces images by their numbers: a split is about which of them, not about pixels."""
    numbers: Any = np.arange(len(files)).reshape(-1, 1, 1, 1)
    return LabelledImages(numbers, np.array([file.label for file in files], np.int64))


def _find_missing(listing: Listing, splits: Mapping[str, Sequence[ImageFile]]) -> list[str]:
    faults = []
    for split, files in splits.items():
        missing = sorted(set(range(len(listing.class_names))) - {file.label for file in files})
        if missing:
            names = list_some([show_path(listing.class_names[label]) for label in missing])
            advice = (
                f"Add images, or raise preprocess.{'test' if split == 'test' else 'validation'}_fraction."
                if split not in listing.splits
                else f"Add images of it to {split}/, or remove it from every split."
            )
            faults.append(f"expected images of every class in {split}. Received: none of {names}. {advice}")
    return faults
