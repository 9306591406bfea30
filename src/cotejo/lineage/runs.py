"""Finds runs in this machine's journals and in MLflow."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from cotejo.lineage.digests import SHORT
from cotejo.lineage.tags import CODE_TAG, DEPS, OUTS, digest_code, is_code, parse_entries
from cotejo.tracking.journal_file import find_state, load_progress, parse_record
from cotejo.tracking.mlflow.connection import UID_TAG, Connection


class KnownRun(NamedTuple):
    """A run, or a session of them.

    Attributes:
        uid: Id of the run in the journals.
        run_id: Id of the run in MLflow; empty before it has been sent.
        name: Name that MLflow shows.
        parent: The uid (from a journal) or the run id (from MLflow) of the run above; empty for none.
        session: Name of the run's session; empty where it isn't recorded.
        state: State in which the run ended, or `RUNNING`.
        tags: Tags of the run.
        time_ms: Start of the run, in milliseconds since 1970.
    """

    uid: str
    run_id: str
    name: str
    parent: str
    session: str
    state: str
    tags: Mapping[str, str]
    time_ms: int

    @property
    def stage(self) -> str:
        """Name of the run's stage; empty for a session."""
        return self.tags.get("dvc.stage", "")

    @property
    def is_stage(self) -> bool:
        """Whether this is the run of a whole stage, not of a seed or trial within one."""
        return self.name == self.stage

    @property
    def identity(self) -> str:
        """Id of the run in MLflow, or in the journals before it has been sent."""
        return self.run_id or self.uid

    def list_digests(self, kind: str) -> dict[str, str]:
        """Returns the digests of the run's deps (source files apart) or outs by path: `DEPS` or `OUTS`."""
        return parse_entries(self.tags.get(kind, ""))

    def has_made(self, outs: Mapping[str, str]) -> bool:
        """Returns whether all of these digests are among those of the run's outs."""
        return bool(outs) and outs.items() <= self.list_digests(OUTS).items()

    def list_other_deps(self, deps: Mapping[str, str]) -> list[str]:
        """Returns which of these deps the run hasn't read; `source files` stands for those of the study."""
        read = self.list_digests(DEPS)
        others = [path for path, digest in deps.items() if not is_code(path) and read.get(path) != digest]
        return others + (["source files"] if self.tags.get(CODE_TAG, "") != digest_code(deps) else [])


def load_journals(folder: Path) -> list[KnownRun]:
    """Loads the runs of a folder of journals, the newest first, without journals that can't be read."""
    found = [run for journal in folder.glob("*.jsonl") if (run := _load_journal(journal))]
    return sorted(found, key=lambda run: run.time_ms, reverse=True)


def _load_journal(journal: Path) -> KnownRun | None:
    try:
        lines = journal.read_bytes().splitlines(keepends=True)
    except OSError:
        return None
    # most records are an epoch's, and aren't read
    read = (parse_record(line) for line in lines if not line.startswith(b'{"kind": "metrics"'))
    records = [record for record in read if record]
    start: Mapping[str, Any] = {}
    tags: dict[str, str] = {}
    for record in records:
        match record["kind"]:
            case "start":
                start, tags = record, {**record.get("tags", {}), **tags}
            case "tags":
                tags.update(record.get("values", {}))
            case "adopt":
                start = {**start, "parent": record.get("parent")}
    if not {"uid", "name", "time_ms"} <= start.keys():
        return None
    parent = start.get("parent") or {}
    return KnownRun(
        start["uid"],
        load_progress(journal)["run_id"] or "",
        start["name"],
        parent.get("uid", ""),
        parent.get("name", "") if parent.get("is_session") else "",
        find_state(records),
        tags,
        start["time_ms"],
    )


def from_mlflow(run: Any) -> KnownRun:  # noqa: ANN401 - mlflow.entities.Run
    """Returns a run of MLflow in the form that the journals' runs have."""
    tags = dict(run.data.tags)
    return KnownRun(
        tags.get(UID_TAG, ""),
        run.info.run_id,
        run.info.run_name,
        tags.get("mlflow.parentRunId", ""),
        "",
        run.info.status,
        tags,
        run.info.start_time,
    )


def search_mlflow(connection: Connection, conditions: Sequence[str]) -> list[KnownRun]:
    """Returns the study's runs in MLflow that meet all conditions, the newest first."""
    return [from_mlflow(run) for run in connection.search(conditions)]


def condition(key: str, value: str) -> str:
    """Returns the filter of MLflow for a tag of this value."""
    quoted = value.replace("'", "''")
    return f"tags.`{key}` = '{quoted}'"


def _contains(kind: str, path: str, digest: str) -> str:
    """Returns the filter of MLflow for a tag among whose entries there is this one, or one that ends like it."""
    entry = f"{path} {digest}".replace("'", "''")
    return f"tags.`{kind}` LIKE '%{entry}%'"


class Runs:
    """Finds runs in the journals and, for what isn't there, in MLflow, which is asked at the first such question.

    Args:
        journals: The folder of the journals.
        connection: Searches MLflow; None where there is no MLflow to ask.

    Attributes:
        fault: Why MLflow couldn't be asked; empty if it could.
    """

    def __init__(self, journals: Path, connection: Connection | None) -> None:
        self._journals = journals
        self._connection = connection
        self.fault = ""

    @cached_property
    def journaled(self) -> list[KnownRun]:
        """The runs in this machine's journals, the newest first."""
        return load_journals(self._journals)

    def find_makers(self, stage: str, outs: Mapping[str, str]) -> list[KnownRun]:
        """Returns the runs of a stage that made these outs, digests by path; the newest first."""
        found = [run for run in self.journaled if run.stage == stage and run.is_stage and run.has_made(outs)]
        if found or not outs:
            return found
        conditions = [condition("dvc.stage", stage), *(_contains(OUTS, path, outs[path]) for path in outs)]
        return [run for run in self._search(conditions) if run.is_stage and run.has_made(outs)]

    def find_makers_of(self, path: str, digest: str) -> list[KnownRun]:
        """Returns the runs of any stage that made an out; the newest first."""
        return self._find(OUTS, path, digest)

    def find_readers_of(self, path: str, digest: str) -> list[KnownRun]:
        """Returns the runs that read an out; the newest first."""
        return self._find(DEPS, path, digest)

    def find_stage(self, stage: str) -> list[KnownRun]:
        """Returns all runs of a stage, whatever they made; the newest first."""
        found = [run for run in self.journaled if run.stage == stage]
        return [run for run in found or self._search([condition("dvc.stage", stage)]) if run.is_stage]

    def find_below(self, run: KnownRun) -> list[KnownRun]:
        """Returns the runs right below one; the newest first."""
        found = [other for other in self.journaled if other.parent == run.uid]
        return found or (self._search([condition("mlflow.parentRunId", run.run_id)]) if run.run_id else [])

    def find_above(self, run: KnownRun) -> KnownRun | None:
        """Returns the run right above one; None if there is none, or none is recorded."""
        if not run.parent:
            return None
        found = [other for other in self.journaled if other.uid == run.parent]
        found = found or self._search([condition(UID_TAG, run.parent)]) or self.find_by_id(run.parent)
        return found[0] if found else None

    def find_by_id(self, start: str) -> list[KnownRun]:
        """Returns the runs whose id in MLflow or in the journals begins so."""
        found = [run for run in self.journaled if run.run_id.startswith(start) or run.uid.startswith(start)]
        return found or self._search([f"attributes.run_id LIKE '{start}%'"])

    def _find(self, kind: str, path: str, digest: str) -> list[KnownRun]:
        found = [run for run in self.journaled if run.list_digests(kind).get(path) == digest]
        if found:
            return found
        return [
            run for run in self._search([_contains(kind, path, digest)]) if run.list_digests(kind).get(path) == digest
        ]

    def _search(self, conditions: Iterable[str]) -> list[KnownRun]:
        if self._connection is None or self.fault:
            return []
        try:
            return search_mlflow(self._connection, list(conditions))
        except Exception as error:  # noqa: BLE001 - whatever a server does, the journals have answered
            # its text can hold an address with a password
            self.fault = f"MLflow couldn't be asked ({type(error).__name__}); what follows is from the journals alone"
            return []


def shorten(identity: str) -> str:
    """Returns the first characters of a run's id or of a digest, for a reader."""
    return identity[:SHORT]
