"""Traces a file, a run or an experiment back to data, code, parameters and runs; says where the trace breaks."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from cotejo.errors import LineageError
from cotejo.lineage.access import find_mlflow
from cotejo.lineage.digests import (
    LOCK_FILE,
    PIPELINE_FILE,
    Difference,
    Locked,
    compute_dvc_digest,
    find_changes,
    find_upstream,
    is_within,
    list_outs,
    load_lock,
    load_stages,
    parse_lock,
)
from cotejo.lineage.reuse import REUSED
from cotejo.lineage.runs import KnownRun, Runs, shorten
from cotejo.lineage.steps import (
    MAX_NAMED,
    describe_locked,
    describe_recorded,
    format_digests,
    format_run,
    join_names,
    render_steps,
    sum_up_changes,
    wrap_line,
)
from cotejo.lineage.tags import DEPS, OUTS, ask_git, parse_entries
from cotejo.tracking.journal import JOURNAL_FOLDER

#: The part of a run's id with which it can be asked for.
RUN_ID = re.compile(r"[0-9a-f]{6,32}")


def trace(root: Path, target: str) -> Iterator[str]:
    """Renders line by line where a file, a run or an experiment comes from.

    Args:
        root: The study's folder.
        target: A path, a run's id in MLflow or its first six characters or more, or the name of a DVC experiment.

    Raises:
        LineageError: No file, run or experiment has that name.
    """
    runs = Runs(root / JOURNAL_FOLDER, find_mlflow(root))
    stages, locked = load_stages(root), load_lock(root)
    path = os.path.relpath(target, root) if target else ""
    maker = next((name for name in stages if any(is_within(path, out) for out in list_outs(stages[name]))), None)
    if maker:
        lines = _trace_file(root, path, maker, stages, locked, runs)
    elif revision := _find_experiment(target):
        lines = _trace_experiment(target, revision, locked, runs)
    elif RUN_ID.fullmatch(target) and (found := runs.find_by_id(target)):
        if len(found) > 1:
            names = ", ".join(f"{run.identity} ({run.name})" for run in found[:MAX_NAMED])
            raise LineageError(
                expected="the id of one run", received=f"{target}, with which {len(found)} begin: {names}"
            )
        lines = _trace_run(found[0], locked, runs)
    else:
        raise _unknown(root, target, path, stages, runs)
    printed = list(lines)
    if runs.fault:
        yield from wrap_line("", f"{runs.fault}.")
    yield from printed


def _trace_file(
    root: Path,
    path: str,
    maker: str,
    stages: Mapping[str, Mapping[str, Any]],
    locked: Mapping[str, Locked],
    runs: Runs,
) -> Iterator[str]:
    if maker not in locked:
        raise LineageError(
            where=path,
            expected=f"{maker}, which makes it, to have been run",
            received=f"no such stage in {LOCK_FILE}",
            advice=f"Run `dvc repro {maker}` first",
        )
    digest = compute_dvc_digest(root / path)
    yield from wrap_line("", f"{path}{f' {shorten(digest)}' if digest else ''}, made by {maker}")
    names = find_upstream([maker], locked) | {maker}
    steps = []
    for name in (key for key in locked if key in names):
        changes = list(find_changes(root, name, stages[name], locked)) if name in stages else []
        if name not in stages:
            changes = [Difference("", f"{name} is no longer declared in {PIPELINE_FILE}")]
        if name == maker and not (root / path).exists() and not any(change.is_missing for change in changes):
            changes.append(Difference(path, f"{path} isn't here, and isn't in what {maker} has made", is_missing=True))
        steps.append(describe_locked(name, locked, runs, sum_up_changes(name, changes)))
    yield from render_steps(steps)


def _trace_experiment(name: str, revision: str, present: Mapping[str, Locked], runs: Runs) -> Iterator[str]:
    locked = parse_lock(ask_git("show", f"{revision}:{LOCK_FILE}") or "")
    yield from wrap_line("", f"{name}, a DVC experiment: commit {shorten(revision)} on {_find_base(revision)}")
    steps = [describe_locked(stage, locked, runs, []) for stage in locked]
    yield from render_steps(steps)
    others = [stage for stage in locked if stage not in present or present[stage].outs != locked[stage].outs]
    if others:
        yield from wrap_line(
            "", f"The workspace holds other outs of {join_names(others)}; `dvc exp apply {name}` brings these."
        )


def _trace_run(run: KnownRun, locked: Mapping[str, Locked], runs: Runs) -> Iterator[str]:
    if not run.stage:
        yield from wrap_line("", f"{format_run(run)}: all stages of one dvc repro or experiment")
        yield from _list_session(run, runs)
        return
    asked = run
    while not run.is_stage:  # a seed or trial is a part of its stage's run, which holds the digests
        above = runs.find_above(run)
        if above is None:
            break
        run = above
    part = "" if run is asked else f", a part of {format_run(run)}"
    yield from wrap_line("", f"{format_run(asked)}{part}")
    chain, unmade = _find_chain(run, runs)
    # where no stage makes it, the chain starts: a folder of the user's own
    made = {out for entry in locked.values() for out in entry.outs}
    unmade = {
        key: [path for path in paths if any(is_within(path, out) for out in made)] for key, paths in unmade.items()
    }
    yield from render_steps([describe_recorded(member, locked, unmade.get(member.identity, [])) for member in chain])
    yield from _list_forward(run, runs)


def _find_chain(run: KnownRun, runs: Runs) -> tuple[list[KnownRun], dict[str, list[str]]]:
    """Follows what a run has read back to the start: the runs in order, and what no run made by reader."""
    chain, unmade = {run.identity: run}, {}
    waiting = [run]
    while waiting:
        reader = waiting.pop()
        read = reader.list_digests(DEPS)
        makers = {path: _find_latest(runs.find_makers_of(path, read[path]), reader) for path in read}
        for maker in makers.values():
            if maker and maker.identity not in chain:
                chain[maker.identity] = maker
                waiting.append(maker)
        unmade[reader.identity] = [path for path, maker in makers.items() if maker is None]
    # a file within a folder that another run of the chain has made has no digest of its own among the outs
    folders = [path for member in chain.values() for path in member.list_digests(OUTS)]
    unmade = {
        key: [path for path in paths if not any(is_within(path, out) for out in folders)]
        for key, paths in unmade.items()
    }
    return sorted(chain.values(), key=lambda member: member.time_ms), unmade


def _find_latest(makers: Iterable[KnownRun], reader: KnownRun) -> KnownRun | None:
    """Returns the last run before a reader: several make the same bytes where a stage has been run again."""
    return next((run for run in makers if run.is_stage and run.time_ms <= reader.time_ms), None)


def _list_forward(run: KnownRun, runs: Runs) -> Iterator[str]:
    """Yields the runs that read a run's outs, or the outs of those."""
    found: dict[str, KnownRun] = {}
    waiting = [run]
    while waiting:
        for path, digest in waiting.pop().list_digests(OUTS).items():
            for reader in runs.find_readers_of(path, digest):
                # an earlier run has read the same bytes, but not these
                is_later = reader.time_ms >= run.time_ms
                if reader.is_stage and is_later and reader.identity not in {*found, run.identity}:
                    found[reader.identity] = reader
                    waiting.append(reader)
    if run.list_digests(OUTS):
        yield ""
        yield "made from it" if found else "no recorded run was made from it"
    by_stage: dict[str, list[KnownRun]] = {}
    for reader in sorted(found.values(), key=lambda reader: reader.time_ms):
        by_stage.setdefault(reader.stage, []).append(reader)
    for readers in by_stage.values():
        for reader in readers[-MAX_NAMED:]:
            outs = reader.list_digests(OUTS)
            yield from wrap_line("  ", f"{format_run(reader)}{': ' + format_digests(outs) if outs else ''}", "    ")
        if len(readers) > MAX_NAMED:
            yield f"  and {len(readers) - MAX_NAMED} earlier runs of {readers[0].stage}"


def _list_session(session: KnownRun, runs: Runs) -> Iterator[str]:
    for run in sorted(runs.find_below(session), key=lambda run: run.time_ms):
        yield from wrap_line("  ", format_run(run), "    ")
    shown = next((run for run in runs.find_by_id(session.run_id) if run.run_id == session.run_id), session)
    for stage, maker in parse_entries(shown.tags.get(REUSED, "")).items():
        found = [run for run in runs.find_by_id(maker) if run.is_stage] if RUN_ID.fullmatch(maker) else []
        description = format_run(found[0]) if found else f"run {maker}"
        yield from wrap_line("  ", f"{stage}, reused: {description}", "    ")


def _list_experiments() -> dict[str, str]:
    """Returns the refs of DVC's experiments by name; of one name on several commits, the newest."""
    refs = (ask_git("for-each-ref", "--sort=creatordate", "--format=%(refname)", "refs/exps") or "").splitlines()
    # refs/exps/ab/cdef.../name; DVC keeps others there for its own use
    return {ref.split("/")[4]: ref for ref in refs if len(ref.split("/")) == 5}


def _find_base(revision: str) -> str:
    return shorten(ask_git("rev-parse", f"{revision}^") or "no commit")


def _find_experiment(name: str) -> str | None:
    ref = _list_experiments().get(name)
    return ask_git("rev-parse", ref) if ref else None


def _unknown(root: Path, target: str, path: str, stages: Mapping[str, Mapping[str, Any]], runs: Runs) -> LineageError:
    readers = [name for name, stage in stages.items() if any(is_within(path, dep) for dep in stage.get("deps") or ())]
    if readers and (root / path).exists():
        return LineageError(
            expected="what a stage makes, a run's id or an experiment",
            received=f"{target}, which no stage makes and {join_names(readers)} reads",
            advice=f"Ask for an out of one of these, such as {list_outs(stages[readers[0]])[0]}",
        )
    outs = [out for stage in stages.values() for out in list_outs(stage)]
    files = [
        (Path(folder, name)).relative_to(root).as_posix()
        for out in outs
        for folder, _, names in os.walk(root / out)
        for name in names
    ]
    near = get_close_matches(path, [*outs, *files, *_list_experiments()], n=1, cutoff=0.5)
    hint = f" Nearest: {near[0]}." if near else ""
    fault = f" {runs.fault}." if runs.fault else ""
    return LineageError(
        expected="what a stage makes, a run's id (six characters or more) or an experiment",
        received=(
            f"{target}, which is none of these.{hint}{fault} `dvc exp list` and `mlflow ui` show experiments and runs"
        ),
    )
