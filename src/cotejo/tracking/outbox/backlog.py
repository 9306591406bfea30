"""Finds journals with unsent records, and runs whose process was killed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cotejo.files import open_alone
from cotejo.tracking.journal_file import RUNNING, append_records, find_state, load_progress, parse_records
from cotejo.tracking.writers import find_writer, is_gone

#: Errors of a record on a whole line that isn't one of ours.
ODD = (LookupError, TypeError, ValueError, AttributeError)
#: The tag of a run that was closed by another process than its own.
CLOSED_TAG = "interrupted"


class Left(NamedTuple):
    """A journal with unsent records.

    Attributes:
        journal: The file.
        name: The run's name.
        stage: Name of its stage, or an empty string.
        num_records: Number of unsent records.
        state: State of the run, as MLflow names it.
    """

    journal: Path
    name: str
    stage: str
    num_records: int
    state: str


def find_left(folder: Path) -> list[Left]:
    """Returns the journals with unsent records, earlier runs first.

    A file that can't be read is listed as a run without a name: sending it reports why.
    """
    found = [_inspect(journal) for journal in folder.glob("*.jsonl") if not _is_sent(journal)]
    return [left for _, left in sorted(found, key=lambda pair: (pair[0], pair[1].journal)) if left.num_records]


def close_gone(folder: Path) -> int:
    """Closes the runs whose process was killed: MLflow would show them as running for ever.

    Returns:
        Number of closed runs. Their last records are sent with the rest; a run that is resumed is running again.
    """
    return sum(_close_if_gone(journal) for journal in folder.glob("*.jsonl") if not _is_settled(journal))


def _inspect(journal: Path) -> tuple[int, Left]:
    try:
        content = journal.read_bytes()
    except OSError:
        return 0, _unreadable(journal)
    records = parse_records(content)
    start: dict[str, Any] = next((record for record in records if record["kind"] == "start"), {})
    num_unsent = len(parse_records(content[load_progress(journal)["offset"] :]))
    try:
        name, stage = str(start.get("name", "?")), str(start.get("tags", {}).get("dvc.stage", ""))
        return int(start.get("time_ms", 0)), Left(journal, name, stage, num_unsent, find_state(records))
    except ODD:
        return 0, _unreadable(journal)


def _unreadable(journal: Path) -> Left:
    return Left(journal, "?", "", 1, "?")


def _is_sent(journal: Path) -> bool:
    """Compares sizes without reading: most journals have been sent, and a study leaves many."""
    try:
        return bool(load_progress(journal)["offset"] == journal.stat().st_size)
    except OSError:
        return False


def _is_settled(journal: Path) -> bool:
    return _is_sent(journal) and load_progress(journal).get("state", RUNNING) != RUNNING


def _close_if_gone(journal: Path) -> bool:
    try:
        with open_alone(journal, "r+b") as file:  # no process can resume the run meanwhile
            records = parse_records(file.read())
            writer = find_writer(records)
            if not records or find_state(records) != RUNNING or not is_gone(writer):
                return False
            append_records(file, _closing(records[-1].get("time_ms", 0), writer))
    except (OSError, *ODD):  # on a full disk, and the next start tries again; or somebody else's file
        return False
    return True


def _closing(time_ms: int, writer: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    reason = f"process {writer['pid']} on {writer['host']} is gone" if writer else "its process is gone"
    yield {"kind": "tags", "time_ms": time_ms, "values": {CLOSED_TAG: reason}}
    # it ended when it was last heard of, not when somebody noticed
    yield {"kind": "end", "time_ms": time_ms, "state": "KILLED"}
