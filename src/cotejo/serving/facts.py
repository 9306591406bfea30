"""Facts that a picture for a model needs: its classes, and the operations on its training images."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from cotejo.errors import ModelError
from cotejo.lineage.digests import load_lock
from cotejo.schema.operations import Canny, Grayscale, Operation, parse_operations
from cotejo.serving.archives import PROCESSED, Archive
from cotejo.training.description import MEMBER, read_serving

DATASET = f"{PROCESSED}/dataset.json"


class Facts(NamedTuple):
    """Facts on a model.

    Attributes:
        class_names: In the order of its probabilities.
        image_shape: Height, width and channels of what it takes.
        operations: Those that its training images went through.
        color: What they were converted to before; None where they were as they were published.
    """

    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    operations: tuple[Operation, ...]
    color: Literal["grey", "rgb"] | None

    @property
    def num_channels(self) -> int | None:
        """The channels of a picture before the operations; None where they make one channel of any."""
        if any(isinstance(operation, Grayscale | Canny) for operation in self.operations):
            return None
        return self.image_shape[2]


def load_facts(archive: Archive, root: Path) -> Facts:
    """Reads them from the archive, or, where an older Cotejo wrote it, from the study's present data.

    Raises:
        ModelError: It is no archive; neither says it; or the model is known to have been trained on other data than
            the present.
    """
    found = read_serving(archive.path)
    if found is not None:
        return _parse(found, f"{archive.name}: {MEMBER}")
    try:
        described = json.loads((root / DATASET).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        if not zipfile.is_zipfile(archive.path):
            raise ModelError(
                where=archive.name,
                expected="a model that Cotejo has saved",
                received="a file that is no archive, or part of one",
                advice="Run `dvc repro`, or `dvc checkout` to restore it from DVC's cache",
            ) from None
        raise ModelError(
            where=archive.name,
            expected=f"an archive that names its classes, or {DATASET} of the study that trained it",
            received=f"neither in {root.resolve()}",
            advice="Run in that study's folder, or `dvc repro preprocess` there",
        ) from None
    facts = _parse(described, DATASET)
    _check_data(archive, root, described.get("digest"))
    return facts


def _parse(found: Mapping[str, Any], where: str) -> Facts:
    try:
        height, width, channels = found["image_shape"]
        return Facts(
            tuple(found["class_names"]),
            (height, width, channels),
            parse_operations(found.get("operations", []), where),
            found.get("color"),
        )
    except (LookupError, TypeError, ValueError) as error:
        raise ModelError(
            where=where,
            expected="the classes and the shape of a model's images",
            received=f"{type(error).__name__} ({error})",
            advice="Train the model again",
        ) from error


def _check_data(archive: Archive, root: Path, present: str | None) -> None:
    """Refuses names of classes that are another data set's, as far as it is known what the model was trained on."""
    locked = load_lock(root).get("preprocess")
    now = {present, locked.outs.get(PROCESSED) if locked else None}
    if archive.data_digest is not None and archive.data_digest not in now:
        raise ModelError(
            where=archive.name,
            expected=(
                f"the data that it was trained on, {archive.data_digest[:8]}, in {PROCESSED}, for the archive doesn't "
                "name its classes"
            ),
            received=f"other data, {(present or 'none')[:8]}",
            advice="Run `dvc repro` to train with these, or `git checkout` and `dvc checkout` what was there",
        )
