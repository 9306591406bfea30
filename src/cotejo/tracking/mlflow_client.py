"""Sends journals to MLflow. Only this file and the registry's import it."""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock

from cotejo.tracking import registry
from cotejo.tracking.journal import JournalError, load_progress, parse_record, save_progress, say_first_line

EXPERIMENT = "cotejo"
UID_TAG = "cotejo.uid"
#: MLflow refuses a longer digest; the whole SHA-256 goes into a tag.
MAX_DIGEST_LENGTH = 36
#: Seconds to wait for other processes that create runs; a first start on a new database takes two of each.
LOCK_TIMEOUT_S = 30
#: Tags of a stage that its session, the run above, doesn't share.
STAGE_TAGS = ("dvc.stage", "mlflow.source.name")


class Delivery:
    """Sends journals to the tracking server, from where the last sending stopped.

    Args:
        root: The repository's root: `mlflow.db` and `mlruns/` are kept there unless `MLFLOW_TRACKING_URI` is set.
        state_folder: Where the lock is kept that one process at a time creates runs under.
        timeout_s: Seconds to wait for a server.
    """

    def __init__(self, root: Path, state_folder: Path, timeout_s: float) -> None:
        self.root = root
        self.journals = state_folder / "journal"
        self.lock = FileLock(state_folder / "tracking.lock", timeout=LOCK_TIMEOUT_S)
        self.timeout_s = timeout_s

    def __call__(self, journal: Path) -> None:
        """Sends what is new in a journal; MLflow's own exceptions pass through.

        Raises:
            JournalError: The journal doesn't say what run it is of, or holds what MLflow refuses; the rest is sent.
        """
        with FileLock(journal.with_suffix(".lock"), timeout=LOCK_TIMEOUT_S):
            self._send(journal)

    def _send(self, journal: Path) -> None:
        progress = load_progress(journal)
        with journal.open("rb") as file:
            file.seek(progress["offset"])
            # a last line without an end is torn, or being written
            lines = [line for line in file if line.endswith(b"\n")]
        records = [parse_record(line) for line in lines]
        if lines and progress["run_id"] is None:
            progress.update(self._start(_find_start(records)))
        refused = []
        for line, record in zip(lines, records, strict=True):
            try:
                if record and record["kind"] != "start":
                    getattr(self, f"_send_{record['kind']}")(record, progress)
            except Exception as error:
                if not _is_of_the_record(error):
                    raise
                refused.append(error)
            progress["offset"] += len(line)
            save_progress(journal, progress)
        if refused:
            raise JournalError(f"left out {len(refused)} of its records: {say_first_line(refused[0])}")

    @cached_property
    def client(self) -> Any:  # noqa: ANN401 - mlflow.MlflowClient, imported late since it takes a second
        """The client, configured so that a dead server costs seconds instead of minutes."""
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(max(1, round(self.timeout_s))))
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        import mlflow

        logging.getLogger("mlflow").setLevel(logging.WARNING)  # not one line per table of a new database
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            mlflow.set_tracking_uri(f"sqlite:///{self.root / 'mlflow.db'}")
        return mlflow.MlflowClient()

    @cached_property
    def experiment_id(self) -> str:
        """The study's experiment, made by the first process that needs it.

        Two processes that open a fresh database at once break it (https://github.com/daizutabi/hydraflow/issues/245),
        so this runs under a lock.
        """
        with self.lock:
            found = self.client.get_experiment_by_name(EXPERIMENT)
            if found:
                return str(found.experiment_id)
            # on a database of our own the place must be absolute, or it would follow whoever opens it first
            own = None if os.environ.get("MLFLOW_TRACKING_URI") else (self.root / "mlruns").as_uri()
            return str(self.client.create_experiment(EXPERIMENT, artifact_location=own))

    def _start(self, record: Mapping[str, Any]) -> dict[str, Any]:
        parent, parent_id, is_session = record["parent"], None, False
        if parent:
            is_session = bool(parent.get("is_session"))
            shared = {key: value for key, value in record["tags"].items() if not (is_session and key in STAGE_TAGS)}
            parent_id = self._find_or_create(parent["uid"], parent["name"], {**record, "tags": shared}, {})
        if is_session and self.client.get_run(parent_id).info.status != "FAILED":
            self.client.update_run(parent_id, status="RUNNING")
        tags = {"mlflow.parentRunId": parent_id} if parent_id else {}
        run_id = self._find_or_create(record["uid"], record["name"], record, tags)
        return {"run_id": run_id, "parent_id": parent_id, "is_session": is_session}

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

    def _send_resume(self, _: Mapping[str, Any], progress: Mapping[str, Any]) -> None:
        self.client.update_run(progress["run_id"], status="RUNNING")

    def _send_params(self, record: Mapping[str, Any], progress: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        for run_id in _receivers(record, progress):
            self.client.log_batch(run_id, params=[Param(key, value) for key, value in record["values"].items()])

    def _send_metrics(self, record: Mapping[str, Any], progress: Mapping[str, Any]) -> None:
        from mlflow.entities import Metric

        values = [Metric(key, value, record["time_ms"], record["step"]) for key, value in record["values"].items()]
        for run_id in _receivers(record, progress):
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
        path = Path(record["path"])
        # sent before a kill, and a second one would be shown beside it; or another run's model has taken its place
        is_there = path.exists() and registry.compute_sha256(path) == record["sha256"]
        if is_there and not self._has_model(progress["run_id"]):
            registry.log_model(self.client, progress["run_id"], record)

    def _send_champion(self, record: Mapping[str, Any], progress: Mapping[str, Any]) -> None:
        model = registry.find_model(self.client, self.experiment_id, record["sha256"])
        if model is None:  # what its training recorded may still wait to be sent
            self._send_journals_of(record["sha256"])
            model = registry.find_model(self.client, self.experiment_id, record["sha256"])
        if model is None:  # DVC's cache had it, and the training was tracked elsewhere
            self._send_model(record, progress)
            model = registry.find_model(self.client, self.experiment_id, record["sha256"])
        if model is None:
            raise JournalError(
                f"{record['path']}, the champion, was gone before it was sent; run `dvc repro -f compare`"
            )
        with self.lock:
            registry.register_champion(self.client, model, record)

    def _send_journals_of(self, sha256: str) -> None:
        for journal in sorted(self.journals.glob("*.jsonl")):
            records = [parse_record(line) for line in journal.read_bytes().splitlines(keepends=True)]
            if any(record and record["kind"] == "model" and record.get("sha256") == sha256 for record in records):
                with suppress(JournalError):  # said when it is that journal's turn
                    self(journal)

    def _has_model(self, run_id: str) -> bool:
        outputs = self.client.get_run(run_id).outputs
        models = [self.client.get_logged_model(output.model_id) for output in outputs.model_outputs] if outputs else []
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

    def _send_end(self, record: Mapping[str, Any], progress: Mapping[str, Any]) -> None:
        self.client.set_terminated(progress["run_id"], record["state"], record["time_ms"])
        session_id = progress["parent_id"] if progress["is_session"] else None
        # a session has no end of its own: it ends with the last of its stages so far, and one failure stays one
        if session_id and self.client.get_run(session_id).info.status != "FAILED":
            self.client.set_terminated(session_id, record["state"], record["time_ms"])


def _find_start(records: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
    """Returns the record that names the run; it stands first but where a power failure took it."""
    for record in records:
        if record and record["kind"] == "start" and {"uid", "name", "parent", "tags", "time_ms"} <= record.keys():
            return record
    raise JournalError("it has lost its start, which names its run; remove it")


def _is_of_the_record(error: Exception) -> bool:
    """Tells whether a record is at fault, which no later stage could send either, rather than the server."""
    malformed = isinstance(error, (AttributeError, JournalError, KeyError, TypeError))
    return malformed or getattr(error, "error_code", "") == "INVALID_PARAMETER_VALUE"


def _receivers(record: Mapping[str, Any], progress: Mapping[str, Any]) -> list[str]:
    """Lists the runs that a record belongs to: its own and, for a summary, the one above."""
    parents = [progress["parent_id"]] if record["is_summary"] and progress["parent_id"] else []
    return [progress["run_id"], *parents]
