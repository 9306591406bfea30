"""The runs that are known of: those in this machine's journals, and those in MLflow."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from cotejo.tracking.dvcfiles import SHORT
from cotejo.tracking.journal_file import find_state, load_progress, parse_record
from cotejo.tracking.lineage import DEP, OUT, tag_key

#: The study's experiment in MLflow, and the tag that holds a run's unique name.
EXPERIMENT = "cotejo"
UID_TAG = "cotejo.uid"
MAX_FOUND = 1000


class KnownRun(NamedTuple):
    """A run, or a session of them.

    Attributes:
        uid: Its name in the journals.
        run_id: Its name in MLflow, empty before it has been sent.
        name: What MLflow shows.
        parent: The uid (from a journal) or the run id (from MLflow) of the run above, empty for none.
        session: The name of the session that it ran in, where that is known.
        state: How it ended; `RUNNING` if it hasn't.
        tags: What is known of it.
        time_ms: When it started, since 1970.
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
        """The stage that it is a run of, or that of which it is a part; empty for a session."""
        return self.tags.get("dvc.stage", "")

    @property
    def is_stage(self) -> bool:
        """Tells whether it is the run of a whole stage, not of a seed or trial within one."""
        return self.name == self.stage

    @property
    def identity(self) -> str:
        """Its name in MLflow, or in the journals before it has been sent."""
        return self.run_id or self.uid

    def list_digests(self, kind: str) -> dict[str, str]:
        """Returns the digests of its deps or outs (`DEP` or `OUT`) by path."""
        return {key.removeprefix(kind): value for key, value in self.tags.items() if key.startswith(kind)}

    def has(self, kind: str, digests: Mapping[str, str]) -> bool:
        """Tells whether all of these digests are among those of its deps or outs."""
        return bool(digests) and all(self.tags.get(tag_key(kind, path)) == value for path, value in digests.items())


def load_journals(folder: Path) -> list[KnownRun]:
    """Returns the runs of a folder of journals, the newest first; a journal that can't be read is left out."""
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
    """Returns what a run of MLflow says."""
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


def search_mlflow(client: Any, conditions: Sequence[str]) -> list[KnownRun]:  # noqa: ANN401 - mlflow.MlflowClient
    """Returns the study's runs that meet all conditions, the newest first.

    Args:
        client: Asks MLflow.
        conditions: In MLflow's words: `attributes.run_id LIKE '3fa9c1%'`.
    """
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return []
    found = client.search_runs(
        [experiment.experiment_id],
        " AND ".join(conditions),
        order_by=["attributes.start_time DESC"],
        max_results=MAX_FOUND,
    )
    return [from_mlflow(run) for run in found]


def condition(key: str, value: str) -> str:
    """Returns MLflow's words for a tag of this value."""
    quoted = value.replace("'", "''")
    return f"tags.`{key}` = '{quoted}'"


class Runs:
    """Finds runs in the journals and, for what isn't there, in MLflow, which is asked at the first such question.

    Args:
        journals: The folder of the journals.
        connect: Returns MLflow's client; None where there is nothing to ask.
    """

    def __init__(self, journals: Path, connect: Callable[[], Any] | None) -> None:
        self._journals = journals
        self._connect = connect
        self.fault = ""

    @cached_property
    def journaled(self) -> list[KnownRun]:
        """The runs in this machine's journals, the newest first."""
        return load_journals(self._journals)

    def find_makers(self, stage: str, outs: Mapping[str, str]) -> list[KnownRun]:
        """Returns the runs of a stage that made these outs, digests by path; the newest first."""
        found = [run for run in self.journaled if run.stage == stage and run.is_stage and run.has(OUT, outs)]
        if found or not outs:
            return found
        conditions = [condition("dvc.stage", stage), *(condition(tag_key(OUT, path), outs[path]) for path in outs)]
        return [run for run in self._search(conditions) if run.is_stage]

    def find_makers_of(self, path: str, digest: str) -> list[KnownRun]:
        """Returns the runs of any stage that made an out; the newest first."""
        return self._find(tag_key(OUT, path), digest)

    def find_readers_of(self, path: str, digest: str) -> list[KnownRun]:
        """Returns the runs that read an out; the newest first."""
        return self._find(tag_key(DEP, path), digest)

    def find_stage(self, stage: str) -> list[KnownRun]:
        """Returns all runs of a stage, whatever they made; the newest first."""
        return [run for run in self._find("dvc.stage", stage) if run.is_stage]

    def find_below(self, run: KnownRun) -> list[KnownRun]:
        """Returns the runs right below one; the newest first."""
        found = [other for other in self.journaled if other.parent == run.uid]
        return found or (self._search([condition("mlflow.parentRunId", run.run_id)]) if run.run_id else [])

    def find_above(self, run: KnownRun) -> KnownRun | None:
        """Returns the run right above one, or None if there is none or it isn't known."""
        if not run.parent:
            return None
        found = [other for other in self.journaled if other.uid == run.parent]
        found = found or self._search([condition(UID_TAG, run.parent)]) or self.find_by_id(run.parent)
        return found[0] if found else None

    def find_by_id(self, start: str) -> list[KnownRun]:
        """Returns the runs whose name in MLflow or in the journals begins so."""
        found = [run for run in self.journaled if run.run_id.startswith(start) or run.uid.startswith(start)]
        return found or self._search([f"attributes.run_id LIKE '{start}%'"])

    def _find(self, key: str, value: str) -> list[KnownRun]:
        found = [run for run in self.journaled if run.tags.get(key) == value]
        return found or self._search([condition(key, value)])

    def _search(self, conditions: Iterable[str]) -> list[KnownRun]:
        if self._connect is None or self.fault:
            return []
        try:
            return search_mlflow(self._connect(), list(conditions))
        except Exception as error:  # noqa: BLE001 - whatever a server does, the journals have answered
            # its text can hold an address with a password
            self.fault = f"MLflow couldn't be asked ({type(error).__name__}); what follows is from the journals alone"
            return []


def shorten(identity: str) -> str:
    """Returns the first characters of a run's name or of a digest, as it is shown."""
    return identity[:SHORT]
