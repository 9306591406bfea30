"""Sends journals to MLflow, record by record."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from cotejo.files import digest_path, try_lock
from cotejo.masking import say_first_line
from cotejo.tracking.failures import BusyError, JournalError
from cotejo.tracking.journal_file import RUNNING, find_state, load_progress, parse_record, parse_records, save_progress
from cotejo.tracking.mlflow import registry
from cotejo.tracking.mlflow.connection import UID_TAG, Connection, Names
from cotejo.tracking.outbox.backlog import CLOSED_TAG

#: MLflow refuses a longer digest; the whole SHA-256 goes into a tag.
MAX_DIGEST_LENGTH = 36
#: Most records of metrics that one call sends.
MAX_BATCH = 100
#: Artifact of a stage's run with all digests, versions and the machine.
LINEAGE_FILE = "lineage.json"
#: States in which a stage can end, from the best to the worst; a session has the worst of its stages.
ENDS = ("FINISHED", "KILLED", "FAILED")
#: Tags of a stage that its session, the run above it, doesn't share.
STAGE_TAGS = ("dvc.stage", "mlflow.source.name")


class Delivery(Connection):
    """Sends journals to the tracking server, from where the last sending stopped.

    Args:
        root: See `Connection`.
        state_folder: See `Connection`.
        timeout_s: See `Connection`.
        names: See `Connection`.
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
        super().__init__(root, state_folder, timeout_s, names)
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
