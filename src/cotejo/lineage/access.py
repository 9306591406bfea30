"""Opens the connection of a study to its MLflow, under the names that it declares."""

import os
from pathlib import Path

from cotejo.files import STATE_FOLDER
from cotejo.lineage.reuse import send_reused
from cotejo.params import PARAMS_FILE, Sections, load_params
from cotejo.schema.study import Tracking
from cotejo.tracking.mlflow.connection import Connection, name_study
from cotejo.tracking.mlflow.delivery import Delivery

#: Seconds to wait for a server outside a study, where no `params.yaml` declares them.
TIMEOUT_S = 5.0


def open_delivery(root: Path, params: Sections, busy_timeout_s: float = 0.0) -> Delivery:
    """Returns what sends a study's records to MLflow and searches its runs.

    Args:
        root: The repository's root.
        params: Parameters of the study; `runtime` and `tracking` are read.
        busy_timeout_s: Seconds to wait for another process that is sending the same journal.
    """
    names, timeout_s = name_study(root, params.tracking), params.runtime.tracking_timeout_s
    return Delivery(root, root / STATE_FOLDER, timeout_s, names, {"reused": send_reused}, busy_timeout_s)


def find_mlflow(folder: Path) -> Connection | None:
    """Returns the connection to the MLflow of a folder, a study's or another; None where there is no MLflow."""
    root = folder.resolve()
    if not os.environ.get("MLFLOW_TRACKING_URI") and not (root / "mlflow.db").exists():
        return None
    if (root / PARAMS_FILE).exists():
        return open_delivery(root, load_params([], root / PARAMS_FILE))
    return Connection(root, root / STATE_FOLDER, TIMEOUT_S, name_study(root, Tracking(experiment=None, model=None)))
