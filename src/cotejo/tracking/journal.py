"""The local record of a run: append-only, written before anything is sent anywhere."""

import json
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: Sends what is new in a journal to MLflow; raises when MLflow can't be had.
Deliver = Callable[[Path], None]


class Tracker:
    """Sends the journals of one stage to MLflow, and gives up after the first failure: training never waits.

    Args:
        folder: Where the journals are kept.
        deliver: Sends one journal.
    """

    def __init__(self, folder: Path, deliver: Deliver) -> None:
        self.folder = folder
        self._deliver = deliver
        self._is_down = False

    def send(self, journal: Path) -> None:
        """Sends what is new in a journal; after a failure, warns once and leaves the rest to a later stage."""
        if self._is_down:
            return
        try:
            self._deliver(journal)
        except Exception as error:  # noqa: BLE001 - whatever a tracking server does, the study goes on
            self._is_down = True
            print(
                f"warning: MLflow took no record ({say_first_line(error)[:200]}). The run goes on; its record is "
                f"kept in {self.folder} and is sent by a later stage.",
                file=sys.stderr,
            )

    def send_left_over(self) -> None:
        """Sends what earlier stages could not: the journals of runs that have ended."""
        for journal in sorted(self.folder.glob("*.jsonl")):
            sent = journal.with_suffix(".sent")
            num_sent = json.loads(sent.read_text())["offset"] if sent.exists() else 0
            # by size first: most journals have been sent, and a study leaves many
            if num_sent < journal.stat().st_size and b'"kind": "end"' in journal.read_bytes():
                self.send(journal)


class Run:
    """A run of a stage, or of a seed within a stage.

    Args:
        tracker: Where to send records to.
        name: The name that MLflow shows.
        parent: The unique name of the run above this one, or None.
        tags: What is known of the run at its start.
        uid: The unique name of a run to go on with, whose journal is in the tracker's folder.
    """

    def __init__(
        self,
        tracker: Tracker,
        name: str,
        parent: Mapping[str, Any] | None,
        tags: Mapping[str, str],
        uid: str | None = None,
    ) -> None:
        self.tracker = tracker
        self.name = name
        self.uid = uid or uuid.uuid4().hex
        self.tags = dict(tags)
        self.path = tracker.folder / f"{self.uid}.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():
            self._append("start", uid=self.uid, name=name, parent=parent, tags=self.tags)
            return
        _drop_torn_record(self.path)
        if not self.has_ended():
            self._append("resume")

    @contextmanager
    def start_child(
        self, name: str, uid: str | None = None, *, not_failures: tuple[type[Exception], ...] = ()
    ) -> Iterator["Run"]:
        """Opens a run below this one and closes it with the state in which the block ends.

        Args:
            name: The name that MLflow shows.
            uid: The unique name of a run to go on with, which a kill has interrupted.
            not_failures: Exceptions that end the block as a decision, such as that to prune a trial.
        """
        child = Run(self.tracker, name, {"uid": self.uid, "name": self.name}, self.tags, uid)
        try:
            yield child
        except BaseException as error:
            child.finish("FINISHED" if isinstance(error, not_failures) else state_of(error))
            raise
        if not child.has_ended():
            child.finish("FINISHED")

    def has_ended(self) -> bool:
        """Tells whether the run has ended well, before a kill ended the stage around it."""
        return any(record["kind"] == "end" and record["state"] == "FINISHED" for record in self._records())

    def find_last_step(self) -> int:
        """Returns the last step at which a metric was recorded, 0 if none was."""
        return max((record["step"] for record in self._records() if record["kind"] == "metrics"), default=0)

    def log_params(self, values: Mapping[str, Any], *, is_summary: bool = False) -> None:
        """Records parameters; those of a summary are shown on the parent run too."""
        self._append("params", values={key: str(value) for key, value in values.items()}, is_summary=is_summary)

    def log_metrics(self, values: Mapping[str, float], step: int = 0, *, is_summary: bool = False) -> None:
        """Records metrics at a step; those of a summary are shown on the parent run too."""
        self._append("metrics", values=dict(values), step=step, is_summary=is_summary)

    def log_tags(self, values: Mapping[str, str]) -> None:
        """Records tags."""
        self._append("tags", values=dict(values))

    def log_artifact(self, path: Path, folder: str = "", *, is_summary: bool = False) -> None:
        """Records a file or folder, by its path; it must stay there until it has been sent."""
        self._append("artifact", path=str(path.resolve()), folder=folder, is_summary=is_summary)

    def log_model(self, path: Path, input_shape: tuple[int, ...], num_classes: int) -> None:
        """Records a saved Keras model from uint8 images of a shape to probabilities."""
        self._append("model", path=str(path.resolve()), input_shape=list(input_shape), num_classes=num_classes)

    def log_dataset(self, name: str, digest: str, folder: Path) -> None:
        """Records the data that the run has read, by its SHA-256."""
        self._append("dataset", name=name, digest=digest, folder=str(folder))

    def flush(self) -> None:
        """Sends what has been recorded."""
        self.tracker.send(self.path)

    def finish(self, state: str, error: str = "") -> None:
        """Records the end and sends what is left.

        Args:
            state: `FINISHED`, `FAILED` or `KILLED`.
            error: What went wrong, in one line.
        """
        if error:
            self.log_tags({"error": error})
        self._append("end", state=state)
        self.flush()

    def _records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]

    def _append(self, kind: str, **fields: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
        record = {"kind": kind, "time_ms": time.time_ns() // 1_000_000, **fields}
        with self.path.open("ab") as journal:
            journal.write(json.dumps(record).encode() + b"\n")


def _drop_torn_record(journal: Path) -> None:
    """Cuts off the half of a record that a kill or a full disk has left, before others are appended to it."""
    os.truncate(journal, journal.read_bytes().rfind(b"\n") + 1)


def say_first_line(error: BaseException) -> str:
    """Returns the first line of an exception's message, or its name where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def state_of(error: BaseException) -> str:
    """Returns MLflow's word for how a run ended that this exception has ended."""
    return "FAILED" if isinstance(error, Exception) else "KILLED"
