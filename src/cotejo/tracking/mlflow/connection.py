"""Connects to MLflow: its client, the study's experiment, and searches in it."""

import logging
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from cotejo.files import replacing
from cotejo.schema.study import UNNAMEABLE, Tracking
from cotejo.upstream import create_mlflow_tables

#: The tag with a run's unique name.
UID_TAG = "cotejo.uid"
#: Seconds to wait for other processes that create runs; a first start on a new database takes two of each.
LOCK_TIMEOUT_S = 30
#: Most runs that a search returns.
MAX_RUNS = 1000
#: Loggers that print a traceback at each failed try; the sender of the records reports the cause once.
LOGGERS = ("mlflow", "alembic", "sqlalchemy", "urllib3")


class Names(NamedTuple):
    """Names of a study in MLflow.

    Attributes:
        experiment: Name of the experiment that holds its runs.
        model: Name of the registered model whose versions are its champions.
    """

    experiment: str
    model: str


def name_study(root: Path, tracking: Tracking) -> Names:
    """Returns the declared names of a study in MLflow; by default both are the name of the repository's folder."""
    default = UNNAMEABLE.sub("-", root.resolve().name).strip() or "cotejo"
    return Names(tracking.experiment or default, tracking.model or default)


class Connection:
    """Connection of a study to its MLflow, made when first used.

    Args:
        root: The repository's root: `mlflow.db` and `mlruns/` are kept there unless `MLFLOW_TRACKING_URI` is set.
        state_folder: The folder with the lock under which one process at a time creates runs.
        timeout_s: Seconds to wait for a server.
        names: Names of the study in MLflow.
    """

    def __init__(self, root: Path, state_folder: Path, timeout_s: float, names: Names) -> None:
        self.database = root / "mlflow.db"
        self.root = root
        self.journals = state_folder / "journal"
        self.lock = FileLock(state_folder / "tracking.lock", timeout=LOCK_TIMEOUT_S)
        self.timeout_s = timeout_s
        self.names = names

    @cached_property
    def client(self) -> Any:  # noqa: ANN401 - mlflow.MlflowClient, imported late since it takes a second
        """The client, configured so that a dead server costs seconds instead of minutes."""
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(max(1, round(self.timeout_s))))
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        import mlflow

        for name in LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        with self.lock:
            if self._has_own_database():
                if not self.database.exists():
                    _create_database(self.database)
                _check_writable(self.database, self.timeout_s)
                mlflow.set_tracking_uri(f"sqlite:///{self.database}")
            return mlflow.MlflowClient()

    @cached_property
    def experiment_id(self) -> str:
        """Id of the study's experiment, which the first process that needs it creates.

        Two processes that open a fresh database at once break it (https://github.com/daizutabi/hydraflow/issues/245),
        so this runs under a lock.
        """
        with self.lock:
            found = self.client.get_experiment_by_name(self.names.experiment)
            if found:
                return str(found.experiment_id)
            # on a database of our own the place must be absolute, or it would follow whoever opens it first
            own = (self.root / "mlruns").as_uri() if self._has_own_database() else None
            try:
                return str(self.client.create_experiment(self.names.experiment, artifact_location=own))
            except Exception as error:
                if getattr(error, "error_code", "") != "RESOURCE_ALREADY_EXISTS":
                    raise
                # the lock is this machine's, and somebody else's was faster
                return str(self.client.get_experiment_by_name(self.names.experiment).experiment_id)

    def _has_own_database(self) -> bool:
        """Returns whether no server is named; MLflow puts the address that it is given into the same variable."""
        return (os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.database}") == f"sqlite:///{self.database}"

    def is_answering(self) -> bool:
        """Returns whether MLflow answers at all, after it has refused something."""
        try:
            self.client.get_experiment_by_name(self.names.experiment)
        except Exception:  # noqa: BLE001 - whatever keeps it from answering
            return False
        return True

    def search(self, conditions: Sequence[str]) -> list[Any]:
        """Returns MLflow's runs of the study that meet all conditions, the newest first.

        Args:
            conditions: In MLflow's filter language: `attributes.run_id LIKE '3fa9c1%'`.
        """
        experiment = self.client.get_experiment_by_name(self.names.experiment)
        if experiment is None:
            return []
        found = self.client.search_runs(
            [experiment.experiment_id],
            " AND ".join(conditions),
            order_by=["attributes.start_time DESC"],
            max_results=MAX_RUNS,
        )
        return list(found)


def _create_database(path: Path) -> None:
    """Creates MLflow's tables in one step: a database that a kill leaves half made can't be opened again."""
    with replacing(path) as partial:
        create_mlflow_tables(partial)


def _check_writable(database: Path, timeout_s: float) -> None:
    """Raises at once what MLflow would try again for minutes: a locked, read-only or damaged database."""
    with closing(sqlite3.connect(database, timeout_s, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
