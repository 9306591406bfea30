"""Runs of trainings below a stage's run; after a kill, the next run of the stage resumes them."""

import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cotejo.files import sync_to_disk
from cotejo.masking import say_first_line
from cotejo.tracking.journal import Run, state_of


class Child:
    """Run of one training, which another process than the first may resume."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.last_epoch = run.find_last_step()
        self.is_open = True

    def log_row(self, row: Mapping[str, float]) -> bool:
        """Records an epoch and has it sent; returns False for one that was recorded before a kill."""
        if row["epoch"] <= self.last_epoch:
            return False
        self.last_epoch = int(row["epoch"])
        self.run.log_epoch(row)
        self.run.flush()
        return True

    def finish(self, state: str = "FINISHED", error: str = "") -> None:
        """Records the end, unless it was recorded before a kill, and has it sent."""
        self.is_open = False
        if self.run.has_ended(state):
            self.run.flush()
        else:
            self.run.finish(state, error)


class Children:
    """Opens the runs of trainings by name; a run that a kill has interrupted is resumed.

    Args:
        run: The stage's run.
        folder: An existing folder, of this stage with these inputs; it keeps the runs' unique names.
    """

    def __init__(self, run: Run, folder: Path) -> None:
        self.run = run
        self.path = folder / "runs.jsonl"
        self.uids = _read(self.path)
        self.opened: dict[str, Child] = {}

    def open(self, name: str, params: Mapping[str, Any]) -> Child:
        """Opens the run of a training; its unique name is on the disk before its first record."""
        if name not in self.uids:
            self.uids[name] = uuid.uuid4().hex
            self._write(name)
        run = self.run.open_child(name, self.uids[name])
        run.log_params(params)
        child = Child(run)
        self.opened[name] = child
        return child

    def adopt(self, name: str, state: str, error: str = "") -> None:
        """Moves a training's run that ended below a stage that was killed later to below this one."""
        if name in self.uids and name not in self.opened:
            Child(self.run.open_child(name, self.uids[name], state)).finish(state, error)

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Finishes the open runs when an exception ends the block, in the state that it stands for."""
        try:
            yield
        except BaseException as error:
            reason = say_first_line(error) if isinstance(error, Exception) else ""
            for child in self.opened.values():
                if child.is_open:
                    child.finish(state_of(error), reason)
            raise

    def _write(self, name: str) -> None:
        if not self.run.tracker.is_on:
            return
        try:
            with self.path.open("ab") as file:
                # a line's end stands before it: half a line that a kill has left spoils no other
                file.write(b"\n" + json.dumps([name, self.uids[name]]).encode())
            sync_to_disk(self.path)
        except OSError as error:  # a full disk costs records, and never a run
            self.run.tracker.warn_unrecorded(self.path, error)


def _read(path: Path) -> dict[str, str]:
    uids = {}
    for line in path.read_bytes().splitlines() if path.exists() else ():
        with suppress(ValueError, TypeError):
            name, uid = json.loads(line)
            uids[name] = uid
    return uids
