"""Saved models whose bytes depend on nothing but the model."""

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from cotejo.errors import ModelError
from cotejo.models.layers import BatchNormalization
from cotejo.training.description import MEMBER

#: The earliest date that a zip archive can hold, for its members and for Keras's own record of the date.
FIXED_DATE = (1980, 1, 1, 0, 0, 0)
FIXED_DATE_SAVED = "1980-01-01@00:00:00"

#: All that an archive holds, uncompressed.
MEMBERS = ("config.json", MEMBER, "metadata.json", "model.weights.h5")


def save_model(model: keras.Model, path: Path, serving: Mapping[str, Any] | None = None) -> None:
    """Saves a model as a `.keras` archive that is the same, byte for byte, for the same model.

    Keras writes the date and the memory addresses of shared objects into the archive
    (https://github.com/keras-team/keras/issues/15948); both are replaced, and our batch normalisation by Keras's own.
    So `keras.saving.load_model` reads the result where Cotejo isn't installed, and `model(images)` answers as
    `model.predict(images)` does.

    Args:
        model: The model; of a compiled one the optimizer's state is saved too.
        path: A name that ends in `.keras`, in an existing folder.
        serving: What has to be known to give it a picture; what `describe_serving` says. Keras passes over it.
    """
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    if serving is not None:
        members[MEMBER] = json.dumps(serving, indent=2, ensure_ascii=False).encode()
    members["metadata.json"] = _edit_json(members["metadata.json"], _fix_date)
    members["config.json"] = _edit_json(members["config.json"], _name_stock_layer)
    members["config.json"] = _edit_json(members["config.json"], _call_in_inference_mode)
    members["config.json"] = _edit_json(members["config.json"], _RenumberSharedObjects())
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name, member in sorted(members.items()):
            archive.writestr(zipfile.ZipInfo(name, FIXED_DATE), member)
    path.write_bytes(content.getvalue())


def load_model(path: Path) -> keras.Model:
    """Loads a saved model for inference or further training, without running code from the archive.

    Raises:
        ModelError: There is no such file, or it isn't a model that Keras loads in safe mode.
    """
    try:
        _check_members(path)
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
        raise ModelError(
            where=path,
            expected="a model saved by this study",
            received=f"{str(error).splitlines()[0]} Run `dvc repro`, or `dvc checkout` to restore it from DVC's cache",
        ) from error


def _check_members(path: Path) -> None:
    """Refuses what `save_model` never writes: a member that belongs elsewhere, or unpacks to any size."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.filename not in MEMBERS or member.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"an archive with another member, or a compressed one: {member.filename!r}.")


def _edit_json(content: bytes, hook: Any) -> bytes:  # noqa: ANN401 - any function from object to object
    return json.dumps(json.loads(content, object_hook=hook)).encode()


def _fix_date(entry: dict[str, Any]) -> dict[str, Any]:
    return {**entry, "date_saved": FIXED_DATE_SAVED} if "date_saved" in entry else entry


def _name_stock_layer(entry: dict[str, Any]) -> dict[str, Any]:
    ours = (BatchNormalization.__module__, BatchNormalization.__name__)
    if (entry.get("module"), entry.get("class_name")) != ours:
        return entry
    return {**entry, "module": "keras.layers", "registered_name": None}


def _call_in_inference_mode(entry: dict[str, Any]) -> dict[str, Any]:
    """Sets Resizing to run as in inference, whatever its default; `fit` overrides it for all layers.

    In Keras 3.15 its default is training=True, and where nobody says which, as in `model(images)`, every layer after it
    takes that over: dropout is on, and batches are normalised by their own statistics.
    """
    if entry.get("class_name") != "Resizing":
        return entry
    calls = [{**call, "kwargs": {**call["kwargs"], "training": False}} for call in entry.get("inbound_nodes", [])]
    return {**entry, "inbound_nodes": calls}


class _RenumberSharedObjects:
    """Replaces memory addresses by the order of their first appearance."""

    def __init__(self) -> None:
        self.numbers: dict[int, int] = {}

    def __call__(self, entry: dict[str, Any]) -> dict[str, Any]:
        if "shared_object_id" in entry:
            entry["shared_object_id"] = self.numbers.setdefault(entry["shared_object_id"], len(self.numbers))
        return entry
