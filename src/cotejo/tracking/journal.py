"""The local journal of a run: append-only, written before anything is sent."""

import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cotejo.files import STATE_FOLDER, digest_path, open_alone, sync_to_disk
from cotejo.tracking.journal_file import append_records, find_state, parse_records
from cotejo.tracking.outbox.sender import Tracker
from cotejo.tracking.writers import describe_writer

#: Folder of the journals in a study.
JOURNAL_FOLDER = STATE_FOLDER / "journal"


class Run:
    """A run of a stage, or of a training within a stage.

    Without tracking it has its names and records nothing.

    Args:
        tracker: Sends the records to MLflow.
        name: Name that MLflow shows.
        parent: Names of the run above this one; None for none.
        tags: Tags that the run has from its start.
        uid: Unique name of a run to resume, whose journal is in the tracker's folder.
        ended: State in which that run ended, where it isn't resumed.
    """

    def __init__(
        self,
        tracker: Tracker,
        name: str,
        parent: Mapping[str, Any] | None,
        tags: Mapping[str, str],
        uid: str | None = None,
        ended: str = "",
    ) -> None:
        self.tracker = tracker
        self.name = name
        self.uid = uid or uuid.uuid4().hex
        self.tags = dict(tags)
        self.path = tracker.folder / f"{self.uid}.jsonl"
        writer = describe_writer()
        self._start = {"uid": self.uid, "name": name, "parent": parent, "tags": self.tags, "writer": writer}
        self._is_on_disk = False
        records = self._records()
        # a power failure can take the start of a journal that is resumed
        self._has_start = any(record["kind"] == "start" for record in records)
        self._params = {key for record in records if record["kind"] == "params" for key in record.get("values", ())}
        if not self._has_start:
            self._append("start", **self._start)
            return
        above = [record.get("parent") for record in records if record["kind"] in ("start", "adopt")]
        if parent and parent != above[-1]:
            self._append("adopt", parent=parent, tags=self.tags)  # the run above was killed, and another one resumes it
        if not self.has_ended(ended):
            self._append("resume", writer=writer)

    def open_child(self, name: str, uid: str | None = None, ended: str = "") -> "Run":
        """Opens a run below this one.

        Args:
            name: Name that MLflow shows.
            uid: Unique name of a run to resume, which a kill has interrupted.
            ended: State in which that run ended, where it isn't resumed.
        """
        return Run(self.tracker, name, {"uid": self.uid, "name": self.name}, self.tags, uid, ended)

    def has_ended(self, state: str = "") -> bool:
        """Returns whether the run ended well, or in a given state, before a kill ended the stage around it."""
        return find_state(self._records()) in ("FINISHED", state)

    def find_last_step(self) -> int:
        """Returns the last step at which a metric was recorded, 0 if none was."""
        return max((record.get("step", 0) for record in self._records() if record["kind"] == "metrics"), default=0)

    def log_params(self, values: Mapping[str, Any], *, is_summary: bool = False) -> None:
        """Records parameters, each once; those of a summary are shown on the parent run too."""
        new = {key: str(value) for key, value in values.items() if key not in self._params}
        if new and self._append("params", values=new, is_summary=is_summary):
            self._params.update(new)

    def log_metrics(self, values: Mapping[str, float], step: int = 0, *, is_summary: bool = False) -> None:
        """Records metrics at a step; those of a summary are shown on the parent run too."""
        self._append("metrics", values=dict(values), step=step, is_summary=is_summary)

    def log_epoch(self, row: Mapping[str, float]) -> None:
        """Records an epoch's metrics, at the step that the row's `epoch` names."""
        self.log_metrics({name: value for name, value in row.items() if name != "epoch"}, step=int(row["epoch"]))

    def log_tags(self, values: Mapping[str, str]) -> None:
        """Records tags."""
        self._append("tags", values=dict(values))

    def log_reused(self, outs: Mapping[str, Mapping[str, str]]) -> None:
        """Records the stages that the session reuses: the digests of their outs by path."""
        self._append("reused", outs={stage: dict(digests) for stage, digests in outs.items()})

    def log_lineage(self, values: Mapping[str, Any]) -> None:
        """Records where the run comes from, for its artifact `lineage.json`; a later record replaces an earlier one."""
        self._append("lineage", values=dict(values))

    def log_artifact(self, path: Path, folder: str = "", *, is_summary: bool = False) -> None:
        """Records a file or folder, by its path and SHA-256; it must stay as it is until it has been sent."""
        if self.tracker.is_on:
            self._append("artifact", **_locate(path), folder=folder, is_summary=is_summary)

    def log_model(self, path: Path, input_shape: tuple[int, ...], num_classes: int) -> None:
        """Records a saved Keras model from uint8 images of a shape to probabilities."""
        if self.tracker.is_on:
            self._append("model", **_locate(path), input_shape=list(input_shape), num_classes=num_classes)

    def log_champion(self, champion: Mapping[str, Any]) -> None:
        """Records the model that a comparison serves, as `find_champion` returns it."""
        self._append("champion", **{**champion, "path": str(Path(champion["path"]).resolve())})

    def log_dataset(self, name: str, digest: str, folder: Path) -> None:
        """Records the data that the run has read, by its SHA-256."""
        self._append("dataset", name=name, digest=digest, folder=str(folder))

    def flush(self) -> None:
        """Writes the records through to the disk and has them sent, without waiting for that."""
        if not self.tracker.is_on:
            return
        try:
            sync_to_disk(self.path)
            if not self._is_on_disk:
                sync_to_disk(self.path.parent)
                self._is_on_disk = True
        except OSError as error:
            self.tracker.warn_unrecorded(self.path, error)
        else:
            self.tracker.send(self.path)

    def finish(self, state: str, error: str = "") -> None:
        """Records the end and has the rest sent.

        Args:
            state: `FINISHED`, `FAILED` or `KILLED`.
            error: The error in one line.
        """
        if error:
            self.log_tags({"error": error})
        self._append("end", state=state)
        self.flush()

    def _records(self) -> list[dict[str, Any]]:
        try:
            return parse_records(self.path.read_bytes()) if self.tracker.is_on else []
        except OSError:  # never written, on a full disk
            return []

    def _append(self, kind: str, **fields: Any) -> bool:  # noqa: ANN401 - whatever JSON can hold
        if not self.tracker.is_on:
            return False
        if kind != "start" and not self._has_start:
            self._append("start", **self._start)
        record = {"kind": kind, "time_ms": time.time_ns() // 1_000_000, **fields}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open_alone(self.path, "a+b") as journal:
                append_records(journal, [record])
        except OSError as error:
            self.tracker.warn_unrecorded(self.path, error)
            return False
        self._has_start = True
        return True


def _locate(path: Path) -> dict[str, Any]:
    return {"path": str(path.resolve()), "digest": digest_path(path)}


def state_of(error: BaseException) -> str:
    """Returns MLflow's state of a run that this exception has ended."""
    return "FAILED" if isinstance(error, Exception) else "KILLED"
