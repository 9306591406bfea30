"""Sends journals to MLflow. Only this file and `registry.py` import MLflow."""

import json
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from cotejo.files import digest_path, replacing, try_lock
from cotejo.masking import say_first_line
from cotejo.schema.study import UNNAMEABLE, Tracking
from cotejo.tracking.failures import BusyError, JournalError
from cotejo.tracking.journal_file import RUNNING, find_state, load_progress, parse_record, parse_records, save_progress
from cotejo.tracking.mlflow import registry
from cotejo.tracking.outbox.backlog import CLOSED_TAG
from cotejo.upstream import create_mlflow_tables

#: The tag with a run's unique name.
UID_TAG = "cotejo.uid"
#: MLflow refuses a longer digest; the whole SHA-256 goes into a tag.
MAX_DIGEST_LENGTH = 36
#: Seconds to wait for other processes that create runs; a first start on a new database takes two of each.
LOCK_TIMEOUT_S = 30
#: Most records of metrics that one call sends.
MAX_BATCH = 100
#: Most runs that a search returns.
MAX_RUNS = 1000
#: Artifact of a stage's run with all digests, versions and the machine.
LINEAGE_FILE = "lineage.json"
#: Loggers that print a traceback at each failed try; the sender of the records reports the cause once.
LOGGERS = ("mlflow", "alembic", "sqlalchemy", "urllib3")
#: States in which a stage can end, from the best to the worst; a session has the worst of its stages.
ENDS = ("FINISHED", "KILLED", "FAILED")
#: Tags of a stage that its session, the run above it, doesn't share.
STAGE_TAGS = ("dvc.stage", "mlflow.source.name")


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


class Delivery:
    """Sends journals to the tracking server, from where the last sending stopped.

    Args:
        root: The repository's root: `mlflow.db` and `mlruns/` are kept there unless `MLFLOW_TRACKING_URI` is set.
        state_folder: The folder with the lock under which one process at a time creates runs.
        timeout_s: Seconds to wait for a server.
        names: Names of the study in MLflow.
        handlers: Sends records of kinds that this class doesn't know, by kind.
        busy_timeout_s: Seconds to wait for another process that is sending the same journal.

    Attributes:
        num_sent: Number of records that MLflow has taken so far.
    """

    def __init__(
        self,
        root: Path,
        state_folder: Path,
        timeout_s: float,
        names: Names,
        handlers: Mapping[str, "Handler"] | None = None,
        busy_timeout_s: float = 0.0,
    ) -> None:
        self.database = root / "mlflow.db"
        self.root = root
        self.journals = state_folder / "journal"
        self.lock = FileLock(state_folder / "tracking.lock", timeout=LOCK_TIMEOUT_S)
        self.timeout_s = timeout_s
        self.names = names
        self.busy_timeout_s = busy_timeout_s
        self.num_sent = 0
        self._handlers: dict[str, Handler] = {**HANDLERS, **(handlers or {})}

    def __call__(self, journal: Path) -> None:
        """Sends what is new in a journal; MLflow's own exceptions pass through.

        Raises:
            JournalError: The journal doesn't say what run it is of, or holds what MLflow refuses; the rest is sent.
            BusyError: Another process is sending it.
        """
        with try_lock(journal.with_suffix(".lock"), self.busy_timeout_s) as is_held:
            if not is_held:
                raise BusyError
            try:
                self._send(journal)
            except Exception as error:
                if getattr(error, "error_code", "") != "RESOURCE_DOES_NOT_EXIST":
                    raise
                # another database than the one that took the first part: it gets the whole
                journal.with_suffix(".sent").unlink(missing_ok=True)
                self.__dict__.pop("experiment_id", None)
                self._send(journal)

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

    def _send(self, journal: Path) -> None:
        progress = load_progress(journal)
        lines = _read_lines(journal, progress["offset"])
        if lines:
            _ = self.client  # an MLflow that can't be imported is no fault of a record
        if lines and progress["run_id"] is None:
            progress.update(self._start(_find_start([parse_record(line) for line in lines])))
        refused = []
        for records, size in _batch(lines):
            faults = self._send_batch(records, progress)
            refused += faults
            progress["offset"] += size
            progress["state"] = find_state(records, progress.get("state", RUNNING))
            save_progress(journal, progress)
            self.num_sent += len(records) - len(faults)
        if refused:
            raise JournalError(f"left out {len(refused)} of its records: {say_first_line(refused[0])}")

    def _send_batch(self, records: Sequence[Mapping[str, Any]], progress: dict[str, Any]) -> list[Exception]:
        """Sends records of one kind in one call, or one by one if MLflow refuses them; returns why it did."""
        try:
            self._send_records(records, progress)
        except Exception as error:
            if not _is_of_the_record(error):
                raise
            if len(records) == 1:
                return [error]
            return [fault for record in records for fault in self._send_batch([record], progress)]
        return []

    def _send_records(self, records: Sequence[Mapping[str, Any]], progress: dict[str, Any]) -> None:
        kind = records[0]["kind"] if records else "start"  # creating the run has sent it already
        if kind == "metrics":
            self._send_metrics(records, progress)
        elif kind != "start":
            _check_unchanged(records[0])
            self._handlers[kind](self, records[0], progress)

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

    def _start(self, record: Mapping[str, Any]) -> dict[str, Any]:
        is_session = bool(record["parent"] and record["parent"].get("is_session"))
        parent_id = self._find_parent(record)
        if is_session and self.client.get_run(parent_id).info.status != "FAILED":
            self.client.update_run(parent_id, status="RUNNING")
        tags = {"mlflow.parentRunId": parent_id} if parent_id else {}
        run_id = self._find_or_create(record["uid"], record["name"], record, tags)
        return {"run_id": run_id, "parent_id": parent_id, "is_session": is_session}

    def _find_parent(self, record: Mapping[str, Any]) -> str | None:
        """Returns the run above the one that a record starts or moves, made if need be."""
        parent = record["parent"]
        if not parent:
            return None
        own = STAGE_TAGS if parent.get("is_session") else ()
        shared = {key: value for key, value in record["tags"].items() if key not in own}
        return self._find_or_create(parent["uid"], parent["name"], {**record, "tags": shared}, {})

    def _find_or_create(self, uid: str, name: str, record: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        from mlflow.entities import RunTag

        experiment_id = self.experiment_id
        with self.lock:
            found = self.client.search_runs([experiment_id], f"tags.`{UID_TAG}` = '{uid}'", max_results=1)
            if found:
                # a run below may have made it first, and couldn't know what is above
                run_id = str(found[0].info.run_id)
                self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
                return run_id
            run = self.client.create_run(
                experiment_id, record["time_ms"], {UID_TAG: uid, **record["tags"], **tags}, run_name=name
            )
            return str(run.info.run_id)

    def _send_adopt(self, record: Mapping[str, Any], progress: dict[str, Any]) -> None:
        progress["parent_id"] = self._find_parent(record)
        self.client.set_tag(progress["run_id"], "mlflow.parentRunId", progress["parent_id"])

    def _send_resume(self, _: Mapping[str, Any], progress: Mapping[str, Any]) -> None:
        run_id = progress["run_id"]
        for tag in {"error", CLOSED_TAG} & self.client.get_run(run_id).data.tags.keys():
            self.client.delete_tag(run_id, tag)
        self.client.update_run(run_id, status="RUNNING")

    def _send_params(self, record: Mapping[str, Any], progress: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        params = [Param(key, value) for key, value in record["values"].items()]
        own_id, *above = _receivers(record, progress)
        self.client.log_batch(own_id, params=params)
        for run_id in above:  # params.yaml may have changed between two stages of one session, which keeps the first
            known = self.client.get_run(run_id).data.params
            self.client.log_batch(run_id, params=[param for param in params if param.key not in known])

    def _send_metrics(self, records: Sequence[Mapping[str, Any]], progress: Mapping[str, Any]) -> None:
        from mlflow.entities import Metric

        values = [
            Metric(key, value, record["time_ms"], record["step"])
            for record in records
            for key, value in record["values"].items()
        ]
        for run_id in _receivers(records[0], progress):
            self.client.log_batch(run_id, metrics=values)

    def _send_tags(self, record: Mapping[str, Any], progress: Mapping[str, Any]) -> None:
        from mlflow.entities import RunTag

        self.client.log_batch(progress["run_id"], tags=[RunTag(key, val) for key, val in record["values"].items()])

    def _send_artifact(self, record: Mapping[str, Any], progress: Mapping[str, Any]) -> None:
        path = Path(record["path"])
        for run_id in _receivers(record, progress):
            if path.is_dir():
                self.client.log_artifacts(run_id, path, record["folder"] or path.name)
            elif path.exists():
                self.client.log_artifact(run_id, path, record["folder"] or None)

    def _send_model(self, record: Mapping[str, Any], progress: Mapping[str, Any]) -> None:
        if not self._has_model(progress["run_id"]):  # sent before a kill, and a second one would be shown beside it
            registry.log_model(self.client, progress["run_id"], record)

    def _send_champion(self, record: Mapping[str, Any], progress: Mapping[str, Any]) -> None:
        model = registry.find_model(self.client, self.experiment_id, record["sha256"])
        if model is None:  # what its training recorded may still wait to be sent
            self._send_journals_of(record["sha256"])
            model = registry.find_model(self.client, self.experiment_id, record["sha256"])
        # DVC's cache had it, and the training was tracked elsewhere
        if model is None and digest_path(Path(record["path"])) == record["sha256"]:
            self._send_model({**record, "digest": record["sha256"]}, progress)
            model = registry.find_model(self.client, self.experiment_id, record["sha256"])
        if model is None:
            raise JournalError(
                f"the champion was gone before it was sent; run `dvc repro -f compare`. Expected: {record['path']}"
            )
        with self.lock:
            registry.register_champion(self.client, self.names.model, model, record)

    def _send_journals_of(self, sha256: str) -> None:
        for journal in sorted(self.journals.glob("*.jsonl")):
            records = parse_records(journal.read_bytes())
            if any(record["kind"] == "model" and record.get("digest") == sha256 for record in records):
                with suppress(JournalError):  # said when it is that journal's turn
                    self(journal)

    def _has_model(self, run_id: str) -> bool:
        models = registry.list_models(self.client, self.client.get_run(run_id))
        return any(model.status == "READY" for model in models)

    def _send_dataset(self, record: Mapping[str, Any], progress: Mapping[str, Any]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=record["name"],
            digest=record["digest"][:MAX_DIGEST_LENGTH],
            source_type="local",
            source=json.dumps({"uri": record["folder"]}),
        )
        tags = [InputTag("mlflow.data.context", "study"), InputTag("sha256", record["digest"])]
        self.client.log_inputs(progress["run_id"], [DatasetInput(dataset, tags)])

    def _send_lineage(self, record: Mapping[str, Any], progress: Mapping[str, Any]) -> None:
        self.client.log_dict(progress["run_id"], record["values"], LINEAGE_FILE)

    def _send_end(self, record: Mapping[str, Any], progress: Mapping[str, Any]) -> None:
        self.client.set_terminated(progress["run_id"], record["state"], record["time_ms"])
        if progress["is_session"]:
            self._end_session(progress["parent_id"])

    def _end_session(self, run_id: str) -> None:
        """Closes a session when none of its stages runs; it has no end of its own, and the next one opens it again."""
        below = self.client.search_runs([self.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'")
        if all(run.info.status in ENDS for run in below):
            state = max((run.info.status for run in below), key=ENDS.index)
            self.client.set_terminated(run_id, state, max(run.info.end_time for run in below))


#: Sends a record to the run that `progress` names.
Handler = Callable[[Delivery, Mapping[str, Any], dict[str, Any]], None]
HANDLERS: dict[str, Handler] = {
    "adopt": Delivery._send_adopt,
    "resume": Delivery._send_resume,
    "params": Delivery._send_params,
    "tags": Delivery._send_tags,
    "lineage": Delivery._send_lineage,
    "artifact": Delivery._send_artifact,
    "model": Delivery._send_model,
    "champion": Delivery._send_champion,
    "dataset": Delivery._send_dataset,
    "end": Delivery._send_end,
}


def _create_database(path: Path) -> None:
    """Creates MLflow's tables in one step: a database that a kill leaves half made can't be opened again."""
    with replacing(path) as partial:
        create_mlflow_tables(partial)


def _check_writable(database: Path, timeout_s: float) -> None:
    """Raises at once what MLflow would try again for minutes: a locked, read-only or damaged database."""
    with closing(sqlite3.connect(database, timeout_s, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")


def _read_lines(journal: Path, offset: int) -> list[bytes]:
    try:
        with journal.open("rb") as file:
            file.seek(offset)
            # a last line without an end is torn, or being written
            return [line for line in file if line.endswith(b"\n")]
    except OSError as error:
        raise JournalError(str(error)) from error


def _batch(lines: Sequence[bytes]) -> Iterator[tuple[list[dict[str, Any]], int]]:
    """Groups records that one call can send: metrics that follow each other. Yields them with their size in bytes."""
    records: list[dict[str, Any]] = []
    size = 0
    for line in lines:
        record = parse_record(line)
        if (
            record
            and records
            and not (len(records) < MAX_BATCH and _sendable_with(record) == _sendable_with(records[0]))
        ):
            yield records, size
            records = []
            size = 0
        records += [record] if record else []
        size += len(line)
    if size:
        yield records, size


def _sendable_with(record: Mapping[str, Any]) -> object:
    """Returns what is equal for two records that one call can send."""
    return record.get("is_summary") if record["kind"] == "metrics" else object()


def _check_unchanged(record: Mapping[str, Any]) -> None:
    """Refuses a file that has been written anew since it was recorded: it is another run's."""
    if record.get("digest") and "path" in record and digest_path(Path(record["path"])) != record["digest"]:
        raise JournalError(f"{record['path']} has changed since, or is gone")


def _find_start(records: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
    """Returns the record that names the run; it stands first but where a power failure took it."""
    for record in records:
        if record and record["kind"] == "start" and {"uid", "name", "parent", "tags", "time_ms"} <= record.keys():
            return record
    raise JournalError("its first record, which names its run, is lost; remove it")


def _is_of_the_record(error: Exception) -> bool:
    """Returns whether the record is at fault, not the server: no later stage could send it either."""
    malformed = isinstance(error, (JournalError, AttributeError, KeyError, TypeError))
    return malformed or getattr(error, "error_code", "") == "INVALID_PARAMETER_VALUE"


def _receivers(record: Mapping[str, Any], progress: Mapping[str, Any]) -> list[str]:
    """Returns the ids of the runs that a record belongs to: its own and, for a summary, the one above."""
    parents = [progress["parent_id"]] if record["is_summary"] and progress["parent_id"] else []
    return [progress["run_id"], *parents]
