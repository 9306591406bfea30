"""Saves splits whole, as preprocess writes them image by image: what its bytes are compared with."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from cotejo.data.readers import LabelledImages
from cotejo.data.splits import SPLITS


def save_splits(
    splits: dict[str, LabelledImages], folder: Path, name: str, class_names: tuple[str, ...], source: dict[str, Any]
) -> dict[str, Any]:
    """Writes `{train,val,test}_{images,labels}.npy` and `dataset.json`, the same bytes on every run.

    Args:
        splits: The three splits.
        folder: An existing folder.
        name: The data set's name in `params.yaml`.
        class_names: One name per label.
        source: Where the images come from, for the reader of `dataset.json`.

    Returns:
        The content of `dataset.json`.
    """
    table: dict[str, dict[str, Any]] = {}
    for split, (images, labels) in splits.items():
        np.save(folder / f"{split}_images.npy", images)
        np.save(folder / f"{split}_labels.npy", labels)
        per_class = np.bincount(labels, minlength=len(class_names))
        table[split] = {
            "num_samples": len(labels),
            "per_class": dict(zip(class_names, per_class.tolist(), strict=True)),
            "digest": _digest(np.ascontiguousarray(images).data, np.ascontiguousarray(labels).data),
        }
    description = {
        "name": name,
        "class_names": list(class_names),
        "image_shape": list(splits["train"].images.shape[1:]),
        "digest": _digest(*(table[split]["digest"].encode() for split in SPLITS)),
        "splits": table,
        "source": source,
    }
    (folder / "dataset.json").write_text(json.dumps(description, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return description


def _digest(*parts: bytes | memoryview) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
