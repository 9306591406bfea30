"""Reads and writes a saved model's own description: what has to be known to give it a picture. Needs no TensorFlow."""

import json
import zipfile
from pathlib import Path
from typing import Any

from cotejo.data.splits import Dataset

#: The member of a `.keras` archive that says it.
MEMBER = "cotejo.json"


def describe_serving(dataset: Dataset) -> dict[str, Any]:
    """Returns what a model that is trained on a data set says of itself.

    Returns:
        `name` and `digest` of the data set; `class_names` in the order of the probabilities; `image_shape`: height,
        width and channels of what the model takes; `color` (grey | rgb, None for as it was published) and
        `operations`: what a picture goes through before.
    """
    return {
        "name": dataset.name,
        "digest": dataset.digest,
        "class_names": list(dataset.class_names),
        "image_shape": list(dataset.image_shape),
        "color": dataset.color,
        "operations": [dict(operation) for operation in dataset.operations],
    }


def read_serving(path: Path) -> dict[str, Any] | None:
    """Reads what a saved model says of itself.

    Args:
        path: A `.keras` archive.

    Returns:
        What `describe_serving` says; None for an archive without it, as an older Cotejo or Keras alone writes it, and
        for a file that isn't one: whoever loads the model says what is wrong with it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            found = json.loads(archive.read(MEMBER)) if MEMBER in archive.namelist() else None
    except (OSError, ValueError, zipfile.BadZipFile):
        return None
    return found if isinstance(found, dict) else None
