"""Stages that DVC skipped or took from its cache: shown on the run of the session that reused them.

The session's run has a tag `reused` with the id of the run that made each stage's outs, and links in its description.
A run of their own would be a run that never happened: each session would double every stage in MLflow's table.
"""

import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cotejo.errors import CotejoError, TrackingError
from cotejo.files import digest_json
from cotejo.lineage.digests import (
    LOCK_FILE,
    PIPELINE_FILE,
    Locked,
    find_changes,
    find_upstream,
    list_deps,
    load_lock,
    load_stages,
    sort_stages,
)
from cotejo.lineage.runs import KnownRun, Runs, condition, load_journals, search_mlflow, shorten
from cotejo.lineage.tags import git_commit, join_entries, parse_entries
from cotejo.masking import say_first_line
from cotejo.tracking.failures import say_cause
from cotejo.tracking.journal import Run
from cotejo.tracking.journal_file import RUNNING
from cotejo.tracking.mlflow.connection import UID_TAG, Connection
from cotejo.tracking.outbox.sync import count

#: Tag of a session's run with the reused stages, each with the id of the run that made its outs.
REUSED = "reused"
#: Stands for an id where no run is recorded that made them; replaced when one is.
UNKNOWN = "unknown"
NOTE_TAG = "mlflow.note.content"
NOTE_START = "Reused, not run again:"
#: Seconds within which `dvc` writes the lock after a stage's end; a later change is another `dvc`'s.
LOCK_PATIENCE_S = 60

#: Digests of a stage's outs by path.
Outs = Mapping[str, str]


def log_reused(run: Run, stage: str, session: Mapping[str, Any] | None) -> None:
    """Records the stages that a session reuses, at a stage's end; whatever goes wrong, the run continues.

    Args:
        run: The stage's run.
        stage: Name of the stage.
        session: Names of its session; None for a stage started by hand, which has no session's run.
    """
    if session is None or not run.tracker.is_on:
        return
    try:
        reused = find_reused(run.tracker.folder, Path(), stage, session["uid"])
    except (CotejoError, OSError, LookupError, TypeError, AttributeError) as error:
        reason = say_first_line(error)
        print(
            f"warning: the stages that {stage} reuses can't be listed ({reason}). The run continues.", file=sys.stderr
        )
        return
    if reused:
        run.log_reused(reused)


def find_reused(journals: Path, folder: Path, stage: str, session: str) -> dict[str, Outs]:
    """Returns the outs of the stages on which a stage depends and which its session has not run.

    Args:
        journals: The folder of the journals.
        folder: Folder in which the stage ran; `dvc.lock` holds the stages before it by now.
        stage: Name of the stage.
        session: Unique name of its session.
    """
    declared = load_stages(folder).get(stage)
    if declared is None:
        return {}
    # the stage itself is in dvc.lock only after its end, and perhaps as it was declared before
    deps = dict.fromkeys(list_deps(declared), "")
    locked = {**load_lock(folder), stage: Locked("", {}, deps, {})}
    ran = {run.stage for run in load_journals(journals) if run.parent == session}
    upstream = find_upstream([stage], locked) - ran - {stage}
    return {name: locked[name].outs for name in sort_stages(locked) if name in upstream}


def send_reused(connection: Connection, record: Mapping[str, Any], progress: Mapping[str, Any]) -> None:
    """Sends a record of `log_reused`: shows the stages on the run of the session, if there is one."""
    if progress["parent_id"]:
        show_reused(connection, progress["parent_id"], record["outs"])


def show_reused(connection: Connection, parent_id: str, reused: Mapping[str, Outs]) -> int:
    """Shows stages on a session's run as reused, once each.

    Args:
        connection: Connection to MLflow.
        parent_id: Id of the session's run.
        reused: Outs of the stages, as `find_reused` returns them.

    Returns:
        How many weren't shown before.
    """
    client, runs = connection.client, Runs(connection.journals, connection)
    session = client.get_run(parent_id)
    shown = parse_entries(session.data.tags.get(REUSED, ""))
    makers = {stage: found[0] for stage, outs in reused.items() if (found := _find_sent(runs, stage, outs))}
    ids = {stage: makers[stage].run_id if stage in makers else UNKNOWN for stage in reused}
    new = {stage: run_id for stage, run_id in ids.items() if shown.get(stage, "") in ("", UNKNOWN)}
    new = {stage: run_id for stage, run_id in new.items() if shown.get(stage) != run_id}
    if not new:
        return 0
    client.set_tag(parent_id, REUSED, join_entries({**shown, **new}))
    note = session.data.tags.get(NOTE_TAG, "")
    if not note or note.startswith(NOTE_START):  # else a person has written a description
        lines = note.splitlines() or [NOTE_START, ""]
        links = [_link(stage, run, session.info.experiment_id) for stage, run in makers.items()]
        client.set_tag(parent_id, NOTE_TAG, "\n".join([*lines, *(link for link in links if link not in lines)]))
    return len(new)


def sync_reused(root: Path, connection: Connection) -> Iterator[str]:
    """Shows on their session's run the stages that DVC skipped or took from its cache; yields a line with their number.

    Args:
        root: The repository's root.
        connection: Connection to MLflow; all of its journals have been sent.

    Raises:
        TrackingError: MLflow doesn't answer.
    """
    if not any(connection.journals.glob("*.jsonl")):  # nothing was tracked here
        return
    try:
        _ = connection.experiment_id  # asks MLflow also where nothing is left to show
        number = link_reused(root, connection)
    except CotejoError:
        raise
    except Exception as error:
        raise TrackingError(
            expected="MLflow to say what the last session has run",
            received=say_cause(error),
            advice="Start the server, or set MLFLOW_TRACKING_URI to one that runs, and sync again",
        ) from error
    if number:
        yield f"{count(number, 'stage')} that DVC skipped or took from its cache: shown as reused"


def link_reused(root: Path, connection: Connection) -> int:
    """Shows the reused stages that no stage's end could: those of `dvc.lock` after which no stage ran.

    They belong to the newest session, if `dvc.lock` is as that session left it. Otherwise every stage was taken from
    the cache: such a `dvc repro` starts no stage and so has no run, and gets one here, named `reused-<commit>`.

    Args:
        root: The repository's root.
        connection: Connection to MLflow; all of its journals have been sent.

    Returns:
        How many stages weren't shown before.
    """
    current = _find_current(root)
    if not current:
        return 0
    sessions = [run for run in load_journals(connection.journals) if run.session and run.is_stage]
    newest = [run for run in sessions if run.parent == sessions[0].parent]
    if any(run.state == RUNNING for run in newest):  # which stages it reuses isn't decided yet
        return 0
    runs = Runs(connection.journals, connection)
    makers = {stage: found[0].run_id for stage, outs in current.items() if (found := runs.find_makers(stage, outs))}
    if newest and _has_left(root, newest, current, connection.journals):
        parent = search_mlflow(connection, [condition(UID_TAG, newest[0].parent)])
        ran = {run.stage for run in newest}
        rest = {stage: outs for stage, outs in current.items() if stage not in ran}
        return show_reused(connection, parent[0].run_id, rest) if parent else 0
    if len(makers) < len(current) or _is_shown(connection, makers):
        return 0
    return show_reused(connection, _create_parent(connection, current), current)


def _find_current(root: Path) -> dict[str, Outs]:
    """Returns the outs of the stages that DVC would not run; empty outside a study."""
    if not (root / PIPELINE_FILE).exists():
        return {}
    stages, locked = load_stages(root), load_lock(root)
    current: dict[str, Outs] = {}
    for name in locked:
        if name in stages and find_upstream([name], locked) <= current.keys():
            changes = find_changes(root, name, stages[name], locked)
            if all(change.is_missing for change in changes):
                current[name] = locked[name].outs
    return current


def _has_left(root: Path, newest: list[KnownRun], current: Mapping[str, Outs], journals: Path) -> bool:
    """Returns whether `dvc.lock` is as a session has left it."""
    ended_s = max((journals / f"{run.uid}.jsonl").stat().st_mtime for run in newest)
    is_its_own = (root / LOCK_FILE).stat().st_mtime <= ended_s + LOCK_PATIENCE_S
    return is_its_own and all(run.has_made(current.get(run.stage, {})) for run in newest if run.state == "FINISHED")


def _is_shown(connection: Connection, makers: Mapping[str, str]) -> bool:
    """Returns whether some session consists of these runs already, run or reused in it."""
    for run_id in dict.fromkeys(makers.values()):
        parent_id = connection.client.get_run(run_id).data.tags.get("mlflow.parentRunId")
        if not parent_id:
            continue
        children = search_mlflow(connection, [condition("mlflow.parentRunId", parent_id)])
        ran = {run.stage: run.run_id for run in children}
        reused = parse_entries(connection.client.get_run(parent_id).data.tags.get(REUSED, ""))
        if all(makers[stage] in (ran.get(stage), reused.get(stage)) for stage in makers):
            return True
    return False


def _find_sent(runs: Runs, stage: str, outs: Outs) -> list[KnownRun]:
    return [run for run in runs.find_makers(stage, outs) if run.run_id]


def _create_parent(connection: Connection, current: Mapping[str, Outs]) -> str:
    uid = f"reused-{digest_json(current)}"
    found = search_mlflow(connection, [condition(UID_TAG, uid)])
    if found:
        return found[0].run_id
    commit = git_commit() or ""
    tags = {UID_TAG: uid, "mlflow.source.git.commit": commit}
    run = connection.client.create_run(connection.experiment_id, tags=tags, run_name=f"reused-{commit[:7] or 'nogit'}")
    connection.client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def _link(stage: str, run: KnownRun, experiment_id: str) -> str:
    when = datetime.fromtimestamp(run.time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"- [{stage}](#/experiments/{experiment_id}/runs/{run.run_id}), run {shorten(run.run_id)} of {when}"
