"""What compare reads: the files of evaluate and the clocks of the training stages, never a model or an image."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cotejo.errors import DataError
from cotejo.schema import MODELS


class Inputs(NamedTuple):
    """The study's results.

    Attributes:
        metrics: `reports/metrics/<model>.json` by model.
        predictions: By model, `y_true` of shape (num_samples,) and `y_prob` (num_seeds, num_samples, num_classes).
        histories: By model, a row per seed and epoch.
        timings: `reports/timings/<stage>.json` by stage.
    """

    metrics: dict[str, dict[str, Any]]
    predictions: dict[str, dict[str, NDArray[Any]]]
    histories: dict[str, pd.DataFrame]
    timings: dict[str, dict[str, Any]]


def load_inputs(reports: Path) -> Inputs:
    """Reads the results of all models.

    Args:
        reports: The folder that evaluate writes to.

    Raises:
        DataError: A file is missing or damaged.
    """
    try:
        return Inputs(
            metrics={name: _read_json(reports / "metrics" / f"{name}.json") for name in MODELS},
            predictions={name: _read_arrays(reports / "predictions" / f"{name}.npz") for name in MODELS},
            histories={name: pd.read_csv(reports / "plots" / "histories" / f"{name}.csv") for name in MODELS},
            timings={path.stem: _read_json(path) for path in sorted((reports / "timings").glob("*.json"))},
        )
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{reports}: expected what evaluate writes. Received: {error}. Run `dvc repro evaluate`."
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)
