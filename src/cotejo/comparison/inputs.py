"""Loads the inputs of compare: files of evaluate and times of the stages, never a model."""

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cotejo.errors import DataError
from cotejo.schema.groups import MODELS
from cotejo.schema.results import Metrics, ServingTimes, StageTimes, load_result

R = TypeVar("R", Metrics, StageTimes, ServingTimes)

#: Models in the order of the study, each with the stages whose work it needs; the last one is its own.
STAGES_OF_MODEL = {
    "lenet": ("train-lenet",),
    "resnet": ("train-resnet",),
    "transfer": ("transfer-learn",),
    "finetune": ("transfer-learn", "finetune"),
}
#: The stages whose clocks count beside evaluate's: a search's doesn't, and isn't among what compare depends on.
CLOCKED = tuple(dict.fromkeys(stage for stages in STAGES_OF_MODEL.values() for stage in stages))
#: What reading a missing or damaged file raises.
DAMAGE = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile)


class ArrayFile(Mapping[str, NDArray[Any]]):
    """The arrays of an `.npz` file, each read anew whenever it is asked for.

    The probabilities of twenty models on a million images are more than many machines can hold; compare needs them
    one model at a time, and little of them at once.
    """

    def __init__(self, path: Path) -> None:
        """Opens the file once, so that a missing or damaged one is refused at the start.

        Raises:
            OSError, EOFError, ValueError, zipfile.BadZipFile: It isn't a readable `.npz` file.
        """
        self._path = path
        with _open_arrays(path) as arrays:
            self._names = tuple(arrays.files)

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Reads an array; raises `DataError` if it is missing or damaged."""
        try:
            with _open_arrays(self._path) as arrays:
                array: NDArray[Any] = arrays[name]
                return array
        except DAMAGE as error:
            raise _not_evaluated(self._path, error) from error

    def __contains__(self, name: object) -> bool:
        """Returns whether there is such an array, without reading it."""
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        """Yields the names of the arrays."""
        return iter(self._names)

    def __len__(self) -> int:
        """Returns the number of arrays."""
        return len(self._names)


class Inputs(NamedTuple):
    """The study's results.

    Attributes:
        metrics: `reports/metrics/<model>.json` by model.
        predictions: By model, `y_true` of shape (num_samples,) and `y_prob` (num_seeds, num_samples, num_classes),
            read from the disk each time they are asked for.
        histories: By model, a row per seed and epoch.
        timings: `reports/timings/<stage>.json` by training stage; a missing one is left out.
        serving: `reports/timings/evaluate.json`; None where it is missing.
        gallery: The images of the galleries, uint8 of shape (height, width, channels), by index of the test image.
    """

    metrics: dict[str, Metrics]
    predictions: dict[str, Mapping[str, NDArray[Any]]]
    histories: dict[str, pd.DataFrame]
    timings: dict[str, StageTimes]
    serving: ServingTimes | None
    gallery: dict[int, NDArray[np.uint8]]


def load_inputs(reports: Path) -> Inputs:
    """Reads the results of all models.

    Args:
        reports: The folder that evaluate writes to.

    Raises:
        DataError: A file is missing or damaged.
    """
    clocks = {stage: reports / "timings" / f"{stage}.json" for stage in CLOCKED}
    answers = reports / "timings/evaluate.json"
    try:
        return Inputs(
            metrics={name: _load(Metrics, reports / "metrics" / f"{name}.json") for name in MODELS},
            predictions={name: ArrayFile(reports / "predictions" / f"{name}.npz") for name in MODELS},
            histories={name: pd.read_csv(reports / "plots" / "histories" / f"{name}.csv") for name in MODELS},
            timings={stage: _load(StageTimes, path, stage) for stage, path in clocks.items() if path.exists()},
            serving=_load(ServingTimes, answers) if answers.exists() else None,
            gallery=_load_gallery(reports / "gallery.npz"),
        )
    except DAMAGE as error:
        raise _not_evaluated(reports, error) from error


def check_tested(predictions: Mapping[str, Mapping[str, NDArray[Any]]], dataset: Mapping[str, Any]) -> None:
    """Refuses predictions for other images than the study's test images.

    DVC brings back what evaluate has made before when another `dvc` in the same folder is stopped or refused, and
    takes it for what the running one makes.

    Args:
        predictions: By model, as `load_inputs` returns them.
        dataset: The content of `data/processed/dataset.json`.

    Raises:
        DataError: There are other numbers of images in the classes.
    """
    expected = [dataset["splits"]["test"]["per_class"][name] for name in dataset["class_names"]]
    for name, arrays in predictions.items():
        found = np.bincount(arrays["y_true"], minlength=len(expected)).tolist()
        if found != expected:
            raise DataError(
                where=f"reports/predictions/{name}.npz",
                expected=f"the {sum(expected):,} test images of data/processed, of {len(expected)} classes",
                received=f"{sum(found):,} of {len(found)} classes, in other numbers, so of another data set",
                advice="Run `dvc repro --force --single-item evaluate`, then `dvc repro`",
            )


@contextmanager
def _open_arrays(path: Path) -> Iterator[Any]:
    # numpy, given a path, leaves a file open that turns out to be no archive
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        yield arrays


def _load_gallery(path: Path) -> dict[int, NDArray[np.uint8]]:
    with _open_arrays(path) as arrays:
        return dict(zip(arrays["indices"].tolist(), arrays["images"], strict=True))


def _load(record: type[R], path: Path, stage: str = "evaluate") -> R:
    return load_result(record, path.read_bytes(), str(path), f"Run `dvc repro {stage}`.", DataError)


def _not_evaluated(path: Path, error: Exception) -> DataError:
    return DataError(where=path, expected="what evaluate writes", received=error, advice="Run `dvc repro evaluate`")
