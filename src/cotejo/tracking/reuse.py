"""Stages that DVC skipped or took from its cache: shown on the run of the session that went on from them.

They are tags on that run, `reused.<stage>` with the maker's run id, and links in its description. A run of their own
would be a run that never happened: each session would double every stage in MLflow's table and in what is searched.
"""

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cotejo.errors import CotejoError
from cotejo.files import digest_json
from cotejo.masking import say_first_line
from cotejo.tracking.dvcfiles import (
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
from cotejo.tracking.journal import Run
from cotejo.tracking.journal_file import RUNNING
from cotejo.tracking.lineage import OUT, git_commit
from cotejo.tracking.runs import UID_TAG, KnownRun, Runs, condition, load_journals, search_mlflow, shorten

#: What the tags begin with that name the run which made what a stage's outs are; the stage follows.
REUSED = "reused."
#: Says that no run is known that made them; replaced when one is.
UNKNOWN = "unknown"
NOTE_TAG = "mlflow.note.content"
NOTE_START = "Reused, not run again:"
#: Seconds within which `dvc` writes the lock after a stage's end; later, another `dvc` has written it.
LOCK_PATIENCE_S = 60

#: What is recorded of a stage: the digests of its outs by path.
Outs = Mapping[str, str]


def log_reused(run: Run, stage: str, session: Mapping[str, Any] | None) -> None:
    """Records what `find_reused` finds at a stage's end, in its folder; whatever goes wrong, the run goes on.

    Args:
        run: The stage's run.
        stage: The stage.
        session: Its session; None for a stage started by hand, which has no run to show it on.
    """
    if session is None or not run.tracker.is_on:
        return
    try:
        reused = find_reused(run.tracker.folder, Path(), stage, session["uid"])
    except (CotejoError, OSError, LookupError, TypeError, AttributeError) as error:
        reason = say_first_line(error)
        print(f"warning: what {stage} reuses can't be told ({reason}). The run continues.", file=sys.stderr)
        return
    if reused:
        run.log_reused(reused)


def find_reused(journals: Path, folder: Path, stage: str, session: str) -> dict[str, Outs]:
    """Returns what the stages made that a stage depends on and that its session has not run.

    Args:
        journals: The folder of the journals.
        folder: Where the stage ran; `dvc.lock` holds those before it by now.
        stage: The stage.
        session: The uid of its session.
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


def record_reused(client: Any, parent_id: str, reused: Mapping[str, Outs], journals: Path) -> int:  # noqa: ANN401
    """Shows stages on a session's run as reused, once each.

    Args:
        client: MLflow's client.
        parent_id: The session's run.
        reused: What `find_reused` has found.
        journals: The folder of the journals.

    Returns:
        How many weren't shown before.
    """
    runs = Runs(journals, lambda: client)
    known = client.get_run(parent_id).data.tags
    links = {}
    num_new = 0
    for stage, outs in reused.items():
        makers = [run for run in runs.find_makers(stage, outs) if run.run_id]
        if makers:
            links[stage] = makers[0]
        value = makers[0].run_id if makers else UNKNOWN
        if known.get(REUSED + stage, UNKNOWN) == UNKNOWN and known.get(REUSED + stage) != value:
            client.set_tag(parent_id, REUSED + stage, value)
            num_new += 1
    note = known.get(NOTE_TAG, "")
    if num_new and (not note or note.startswith(NOTE_START)):  # else somebody has written a description
        lines = note.splitlines() or [NOTE_START, ""]
        experiment_id = client.get_run(parent_id).info.experiment_id
        lines += [line for stage, run in links.items() if (line := _link(stage, run, experiment_id)) not in lines]
        client.set_tag(parent_id, NOTE_TAG, "\n".join(lines))
    return num_new


def link_reused(root: Path, journals: Path, client: Any, experiment_id: str) -> int:  # noqa: ANN401 - mlflow.MlflowClient
    """Shows what no stage's end could: the stages that `dvc.lock` holds and no stage that ran came after.

    They belong to the newest session, if it has left `dvc.lock` as it is. Otherwise every stage was taken from the
    cache: such a `dvc repro` starts no stage and so has no run, and gets one here, named `reused-<commit>`.

    Args:
        root: The repository's root.
        journals: The folder of the journals; all have been sent.
        client: MLflow's client.
        experiment_id: The study's experiment.

    Returns:
        How many stages weren't shown before.
    """
    current = _find_current(root)
    if not current:
        return 0
    sessions = [run for run in load_journals(journals) if run.session and run.is_stage]
    newest = [run for run in sessions if run.parent == sessions[0].parent]
    if any(run.state == RUNNING for run in newest):  # it isn't known yet what it will not have run
        return 0
    runs = Runs(journals, lambda: client)
    makers = {stage: found[0].run_id for stage, outs in current.items() if (found := runs.find_makers(stage, outs))}
    if newest and _has_left(root, newest, current, journals):
        parent = search_mlflow(client, [condition(UID_TAG, newest[0].parent)])
        ran = {run.stage for run in newest}
        left = {stage: outs for stage, outs in current.items() if stage not in ran}
        return record_reused(client, parent[0].run_id, left, journals) if parent else 0
    if len(makers) < len(current) or _is_shown(client, runs, makers):
        return 0
    return record_reused(client, _create_parent(client, experiment_id, current), current, journals)


def _find_current(root: Path) -> dict[str, Outs]:
    """Returns the outs of the stages that DVC would not run; none outside a study."""
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
    """Tells whether `dvc.lock` is as a session has left it."""
    ended_s = max((journals / f"{run.uid}.jsonl").stat().st_mtime for run in newest)
    is_its_own = (root / LOCK_FILE).stat().st_mtime <= ended_s + LOCK_PATIENCE_S
    return is_its_own and all(run.has(OUT, current.get(run.stage, {})) for run in newest if run.state == "FINISHED")


def _is_shown(client: Any, runs: Runs, makers: Mapping[str, str]) -> bool:  # noqa: ANN401
    """Tells whether some session consists of these runs already, run or reused in it."""
    for run_id in dict.fromkeys(makers.values()):
        parent_id = client.get_run(run_id).data.tags.get("mlflow.parentRunId")
        if not parent_id:
            continue
        below = {run.stage: run.run_id for run in search_mlflow(client, [condition("mlflow.parentRunId", parent_id)])}
        tags = client.get_run(parent_id).data.tags
        if all(makers[stage] in (below.get(stage), tags.get(REUSED + stage)) for stage in makers):
            return True
    return False


def _create_parent(client: Any, experiment_id: str, current: Mapping[str, Outs]) -> str:  # noqa: ANN401
    digest = digest_json(current)
    commit = git_commit() or ""
    found = search_mlflow(client, [condition(UID_TAG, f"reused-{digest}")])
    if found:
        return found[0].run_id
    tags = {UID_TAG: f"reused-{digest}", "mlflow.source.git.commit": commit}
    run = client.create_run(experiment_id, tags=tags, run_name=f"reused-{commit[:7] or 'nogit'}")
    client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def _link(stage: str, run: KnownRun, experiment_id: str) -> str:
    when = datetime.fromtimestamp(run.time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"- [{stage}](#/experiments/{experiment_id}/runs/{run.run_id}), run {shorten(run.run_id)} of {when}"
