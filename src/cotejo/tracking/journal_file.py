"""The file of a journal: a record per line, and beside it how far it has been sent."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from cotejo.files import drop_torn_line, replacing
from cotejo.masking import mask_addresses

RUNNING = "RUNNING"


def parse_record(line: bytes) -> dict[str, Any] | None:
    """Returns a journal's record, or None for a line that a kill, a full disk or a power failure has spoilt."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    is_whole = line.endswith(b"\n") and isinstance(record, dict) and "kind" in record
    return record if is_whole else None


def parse_records(content: bytes) -> list[dict[str, Any]]:
    """Returns the records of a journal, less what is spoilt."""
    return [record for line in content.splitlines(keepends=True) if (record := parse_record(line))]


def append_records(journal: BinaryIO, records: Iterable[Mapping[str, Any]]) -> None:
    """Appends records to an open journal, behind the last that is whole."""
    drop_torn_line(journal)
    for record in records:
        journal.write(json.dumps(_mask(record)).encode() + b"\n")


def _mask(value: Any) -> Any:  # noqa: ANN401 - whatever JSON can hold
    # value by value: in the text of a record, an address would end where JSON escapes the next character
    if isinstance(value, str):
        return mask_addresses(value)
    if isinstance(value, Mapping):
        return {key: _mask(item) for key, item in value.items()}
    return [_mask(item) for item in value] if isinstance(value, list | tuple) else value


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
    with replacing(journal.with_suffix(".sent")) as partial:
        partial.write_text(json.dumps(progress))


def find_state(records: Iterable[Mapping[str, Any]], state: str = RUNNING) -> str:
    """Returns the state of a run after some records, as MLflow names it; `state` is the one before them."""
    for record in records:
        if record["kind"] in ("start", "resume"):
            state = RUNNING
        elif record["kind"] == "end":
            state = str(record.get("state", "FINISHED"))
    return state
