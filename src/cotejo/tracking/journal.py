"""The local record of a run: append-only, written before anything is sent anywhere."""

import json
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from cotejo.masking import mask_addresses, mask_secrets
from cotejo.tracking.registry import compute_sha256

#: Sends what is new in a journal to MLflow; raises when MLflow can't be had.
Deliver = Callable[[Path], None]


class JournalError(Exception):
    """A journal holds what can't be sent, whatever the server does."""


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
        self._is_full = False
        self._warned_of: set[Path] = set()

    def send(self, journal: Path) -> None:
        """Sends what is new in a journal; after a failure, warns once and leaves the rest to a later stage."""
        if self._is_down or not journal.exists():
            return
        try:
            self._deliver(journal)
        except JournalError as error:
            self._warn_of(journal, error)
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
            try:
                # by size first: most journals have been sent, and a study leaves many
                is_left = load_progress(journal)["offset"] != journal.stat().st_size
                has_ended = is_left and b'"kind": "end"' in journal.read_bytes()
            except OSError as error:
                self._warn_of(journal, error)
                continue
            if has_ended:
                self.send(journal)

    def warn_unrecorded(self, journal: Path, error: OSError) -> None:
        """Says once that a record couldn't be written, on a full disk for instance."""
        if not self._is_full:
            self._is_full = True
            print(
                f"warning: expected to write what is tracked to {journal}. Received: {error.strerror}. The run goes "
                "on; what can't be written will be missing in MLflow. Free some space.",
                file=sys.stderr,
            )

    def _warn_of(self, journal: Path, error: Exception) -> None:
        if journal not in self._warned_of:
            self._warned_of.add(journal)
            reason = say_first_line(error)[:200]
            print(f"warning: not all of {journal} can be sent to MLflow: {reason}. The run goes on.", file=sys.stderr)


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
        self._start = {"uid": self.uid, "name": name, "parent": parent, "tags": self.tags}
        # a power failure can take the start of a journal that is gone on with
        self._has_start = any(record["kind"] == "start" for record in self._records())
        if not self._has_start:
            self._append("start", **self._start)
        elif not self.has_ended():
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
            if not child.has_ended():  # else it had ended well, and what stopped came after
                child.finish("FINISHED" if isinstance(error, not_failures) else state_of(error))
            raise
        if not child.has_ended():
            child.finish("FINISHED")

    def has_ended(self) -> bool:
        """Tells whether the run has ended well, before a kill ended the stage around it."""
        return any(record["kind"] == "end" and record.get("state") == "FINISHED" for record in self._records())

    def find_last_step(self) -> int:
        """Returns the last step at which a metric was recorded, 0 if none was."""
        return max((record.get("step", 0) for record in self._records() if record["kind"] == "metrics"), default=0)

    def log_params(self, values: Mapping[str, Any], *, is_summary: bool = False) -> None:
        """Records parameters; those of a summary are shown on the parent run too."""
        self._append("params", values={key: str(value) for key, value in values.items()}, is_summary=is_summary)

    def log_metrics(self, values: Mapping[str, float], step: int = 0, *, is_summary: bool = False) -> None:
        """Records metrics at a step; those of a summary are shown on the parent run too."""
        self._append("metrics", values=dict(values), step=step, is_summary=is_summary)

    def log_epoch(self, row: Mapping[str, float]) -> None:
        """Records an epoch's metrics, at the step that the row's `epoch` names."""
        self.log_metrics({name: value for name, value in row.items() if name != "epoch"}, step=int(row["epoch"]))

    def log_tags(self, values: Mapping[str, str]) -> None:
        """Records tags."""
        self._append("tags", values=dict(values))

    def log_artifact(self, path: Path, folder: str = "", *, is_summary: bool = False) -> None:
        """Records a file or folder, by its path; it must stay there until it has been sent."""
        self._append("artifact", path=str(path.resolve()), folder=folder, is_summary=is_summary)

    def log_model(self, path: Path, input_shape: tuple[int, ...], num_classes: int) -> None:
        """Records a saved Keras model from uint8 images of a shape to probabilities."""
        what = {"sha256": compute_sha256(path), "input_shape": list(input_shape), "num_classes": num_classes}
        self._append("model", path=str(path.resolve()), **what)

    def log_champion(self, champion: Mapping[str, Any]) -> None:
        """Records the model that a comparison recommends; what `find_champion` has found."""
        self._append("champion", **{**champion, "path": str(Path(champion["path"]).resolve())})

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
        try:
            lines = self.path.read_bytes().splitlines(keepends=True)
        except OSError:  # never written, on a full disk
            return []
        return [record for line in lines if (record := parse_record(line))]

    def _append(self, kind: str, **fields: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
        if kind != "start" and not self._has_start:
            self._append("start", **self._start)
        record = {"kind": kind, "time_ms": time.time_ns() // 1_000_000, **fields}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b") as journal:
                drop_torn_record(journal)
                journal.write(mask_addresses(json.dumps(record)).encode() + b"\n")
        except OSError as error:
            self.tracker.warn_unrecorded(self.path, error)
        else:
            self._has_start = True


def parse_record(line: bytes) -> dict[str, Any] | None:
    """Returns a journal's record, or None for a line that a kill, a full disk or a power failure has spoilt."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    is_whole = line.endswith(b"\n") and isinstance(record, dict) and "kind" in record
    return record if is_whole else None


def load_progress(journal: Path) -> dict[str, Any]:
    """Reads how far a journal has been sent: the bytes as `offset`, and the runs that MLflow made of it.

    What can't be read counts as nothing sent: to send a record again is harmless.
    """
    try:
        progress = json.loads(journal.with_suffix(".sent").read_bytes())
        # what a power failure took from the journal may have been sent before
        with journal.open("rb") as file:
            file.seek(progress["offset"] - 1)
            if file.read(1) == b"\n" and progress["run_id"]:
                return dict(progress)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return {"run_id": None, "offset": 0}


def save_progress(journal: Path, progress: Mapping[str, Any]) -> None:
    """Writes how far a journal has been sent, in one step: a kill leaves the old state or the new one."""
    partial = journal.with_suffix(".part")
    partial.write_text(json.dumps(progress))
    partial.replace(journal.with_suffix(".sent"))


def drop_torn_record(journal: BinaryIO) -> None:
    """Cuts off the half of a record that a kill or a full disk has left, before others are appended to it.

    Args:
        journal: A file of a record per line, open to be read and written; left at its end.
    """
    size = journal.seek(0, os.SEEK_END)
    journal.seek(max(size - 1, 0))
    if journal.read(1) not in (b"", b"\n"):
        journal.seek(0)
        journal.truncate(journal.read().rfind(b"\n") + 1)


def say_first_line(error: BaseException) -> str:
    """Returns the first line of an exception's message without secrets, or its name where it has none."""
    return mask_secrets((str(error).splitlines() or [type(error).__name__])[0])


def state_of(error: BaseException) -> str:
    """Returns MLflow's word for how a run ended that this exception has ended."""
    return "FAILED" if isinstance(error, Exception) else "KILLED"
