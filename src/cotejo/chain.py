"""The chain behind a file, a run or an experiment: data, code, parameters, run, model, report; and where it breaks."""

import os
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from cotejo.errors import LineageError
from cotejo.stage import JOURNAL_FOLDER, STATE_FOLDER
from cotejo.tracking.dvcfiles import (
    LOCK_FILE,
    PIPELINE_FILE,
    Change,
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
from cotejo.tracking.lineage import DEP, OUT, ask_git
from cotejo.tracking.mlflow_client import Delivery
from cotejo.tracking.reuse import REUSED
from cotejo.tracking.runs import KnownRun, Runs, shorten
from cotejo.tracking.sync import count

WIDTH = 100
#: The part of a run's id with which it can be asked for.
RUN_ID = re.compile(r"[0-9a-f]{6,32}")
#: Changes of one kind that are named one by one.
MAX_NAMED = 3
TIMEOUT_S = 5.0
BROKEN = "!"


class Step(NamedTuple):
    """A stage of the chain.

    Attributes:
        title: The stage.
        facts: Pairs of what it is and what it says: code, params, run, data, model, report.
        breaks: Where the chain breaks here, a line each.
    """

    title: str
    facts: list[tuple[str, str]]
    breaks: list[str]


def trace(root: Path, target: str) -> Iterator[str]:
    """Describes line by line where a file, a run or an experiment comes from.

    Args:
        root: The study's folder.
        target: A path, a run's id in MLflow or its first six characters or more, or the name of a DVC experiment.

    Raises:
        LineageError: Nothing is known by that name.
    """
    runs = Runs(root / JOURNAL_FOLDER, _find_mlflow(root))
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
        yield from _wrap("", f"{runs.fault}.")
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
    yield from _wrap("", f"{path}{f' {shorten(digest)}' if digest else ''}, made by {maker}")
    names = find_upstream([maker], locked) | {maker}
    steps = []
    for name in (key for key in locked if key in names):
        changes = list(find_changes(root, name, stages[name], locked)) if name in stages else []
        if name not in stages:
            changes = [Change("", f"{name} is no longer declared in {PIPELINE_FILE}")]
        if name == maker and not (root / path).exists() and not any(change.is_missing for change in changes):
            changes.append(Change(path, f"{path} isn't here, and isn't in what {maker} has made", is_missing=True))
        steps.append(_describe_locked(name, locked, runs, _sum_up(name, changes)))
    yield from _render(steps)


def _trace_experiment(name: str, revision: str, present: Mapping[str, Locked], runs: Runs) -> Iterator[str]:
    locked = parse_lock(ask_git("show", f"{revision}:{LOCK_FILE}") or "")
    yield from _wrap("", f"{name}, a DVC experiment: commit {shorten(revision)} on {_say_base(revision)}")
    steps = [_describe_locked(stage, locked, runs, []) for stage in locked]
    yield from _render(steps)
    others = [stage for stage in locked if stage not in present or present[stage].outs != locked[stage].outs]
    if others:
        yield from _wrap("", f"The workspace holds other outs of {_join(others)}; `dvc exp apply {name}` brings these.")


def _trace_run(run: KnownRun, locked: Mapping[str, Locked], runs: Runs) -> Iterator[str]:
    if not run.stage:
        yield from _wrap("", f"{_say_run(run)}: all stages of one dvc repro or experiment")
        yield from _list_session(run, runs)
        return
    asked = run
    while not run.is_stage:  # a seed or trial is a part of its stage's run, which holds the digests
        above = runs.find_above(run)
        if above is None:
            break
        run = above
    part = "" if run is asked else f", a part of {_say_run(run)}"
    yield from _wrap("", f"{_say_run(asked)}{part}")
    chain, unmade = _find_chain(run, runs)
    # where no stage makes it, the chain starts: a folder of the user's own
    made = {out for entry in locked.values() for out in entry.outs}
    unmade = {
        key: [path for path in paths if any(is_within(path, out) for out in made)] for key, paths in unmade.items()
    }
    yield from _render([_describe_run(member, locked, unmade.get(member.identity, [])) for member in chain])
    yield from _list_forward(run, runs)


def _describe_locked(name: str, locked: Mapping[str, Locked], runs: Runs, breaks: list[str]) -> Step:
    """Returns a step as `dvc.lock` has it, with the run that made its outs."""
    entry = locked[name]
    inputs = {path: digest for path, digest in entry.deps.items() if not _is_code(path)}
    code = [path for path in entry.deps if path not in inputs]
    sections = dict.fromkeys(key.split(".")[0] for key in entry.params)
    facts = [
        ("from", _say_digests(inputs)),
        ("code", _count(len(code), "file")),
        ("params", f"{', '.join(sections)}: {_count(len(entry.params), 'value')}" if sections else ""),
    ]
    makers = runs.find_makers(name, entry.outs)
    exact = [run for run in makers if run.has(DEP, entry.deps)]
    if makers:
        run = (exact or makers)[0]
        facts.append(("run", _say_run(run)))
        breaks = [*breaks, *_find_run_breaks(run)]
        if not exact:
            read = run.list_digests(DEP)
            others = [path for path in entry.deps if read.get(path) != entry.deps[path]]
            breaks.append(f"the run made the same outs from other deps: {_join(others)}")
    else:
        breaks = [*breaks, _explain_unknown(name, runs)]
    facts += _say_outs(entry.outs)
    return Step(name, [fact for fact in facts if fact[1]], breaks)


def _describe_run(run: KnownRun, locked: Mapping[str, Locked], unmade: Sequence[str]) -> Step:
    """Returns a step as a run has recorded it."""
    deps, outs = run.list_digests(DEP), run.list_digests(OUT)
    code = [path for path in deps if _is_code(path)]
    breaks = [f"no run is known that made {path} {shorten(deps[path])}" for path in unmade]
    breaks += _find_run_breaks(run)
    if not outs and run.state == "FINISHED":
        breaks.append("the run carries no digests of what it made: Cotejo did not record them yet")
    elif run.stage in locked:
        now = locked[run.stage].outs
        others = [path for path in outs if now.get(path) != outs[path]]
        if others:
            breaks.append(f"not what is in {LOCK_FILE}, where {run.stage} has made another {_join(others)}")
    facts = [
        ("from", _say_digests({path: deps[path] for path in deps if path not in code})),
        ("code", _count(len(code), "file")),
        ("params", f"digest {shorten(run.tags['params.digest'])}" if "params.digest" in run.tags else ""),
        ("run", _say_run(run)),
        *_say_outs(outs),
    ]
    return Step(run.stage, [fact for fact in facts if fact[1]], breaks)


def _find_chain(run: KnownRun, runs: Runs) -> tuple[list[KnownRun], dict[str, list[str]]]:
    """Follows what a run has read back to the start: the runs in order, and what no run made by reader."""
    chain, unmade = {run.identity: run}, {}
    waiting = [run]
    while waiting:
        reader = waiting.pop()
        read = {path: value for path, value in reader.list_digests(DEP).items() if not _is_code(path)}
        makers = {path: _find_latest(runs.find_makers_of(path, read[path]), reader) for path in read}
        for maker in makers.values():
            if maker and maker.identity not in chain:
                chain[maker.identity] = maker
                waiting.append(maker)
        unmade[reader.identity] = [path for path, maker in makers.items() if maker is None]
    # a file within a folder that another run of the chain has made has no digest of its own among the outs
    folders = [path for member in chain.values() for path in member.list_digests(OUT)]
    unmade = {
        key: [path for path in paths if not any(is_within(path, out) for out in folders)]
        for key, paths in unmade.items()
    }
    return sorted(chain.values(), key=lambda member: member.time_ms), unmade


def _find_latest(makers: Iterable[KnownRun], reader: KnownRun) -> KnownRun | None:
    """Returns the last run before a reader: several make the same bytes where a stage has been run again."""
    return next((run for run in makers if run.is_stage and run.time_ms <= reader.time_ms), None)


def _list_forward(run: KnownRun, runs: Runs) -> Iterator[str]:
    """Says what was made from a run's outs, and from what was made from those."""
    found: dict[str, KnownRun] = {}
    waiting = [run]
    while waiting:
        for path, digest in waiting.pop().list_digests(OUT).items():
            for reader in runs.find_readers_of(path, digest):
                # an earlier run has read the same bytes, but not these
                is_later = reader.time_ms >= run.time_ms
                if reader.is_stage and is_later and reader.identity not in {*found, run.identity}:
                    found[reader.identity] = reader
                    waiting.append(reader)
    if run.list_digests(OUT):
        yield ""
        yield "made from it" if found else "nothing is known to have been made from it"
    by_stage: dict[str, list[KnownRun]] = {}
    for reader in sorted(found.values(), key=lambda reader: reader.time_ms):
        by_stage.setdefault(reader.stage, []).append(reader)
    for readers in by_stage.values():
        for reader in readers[-MAX_NAMED:]:
            outs = reader.list_digests(OUT)
            yield from _wrap("  ", f"{_say_run(reader)}{': ' + _say_digests(outs) if outs else ''}", "    ")
        if len(readers) > MAX_NAMED:
            yield f"  and {len(readers) - MAX_NAMED} earlier runs of {readers[0].stage}"


def _list_session(session: KnownRun, runs: Runs) -> Iterator[str]:
    for run in sorted(runs.find_below(session), key=lambda run: run.time_ms):
        yield from _wrap("  ", _say_run(run), "    ")
    shown = next((run for run in runs.find_by_id(session.run_id) if run.run_id == session.run_id), session)
    for key, maker in shown.tags.items():
        if key.startswith(REUSED):
            found = [run for run in runs.find_by_id(maker) if run.is_stage] if RUN_ID.fullmatch(maker) else []
            said = _say_run(found[0]) if found else f"run {maker}"
            yield from _wrap("  ", f"{key.removeprefix(REUSED)}, reused: {said}", "    ")


def _explain_unknown(name: str, runs: Runs) -> str:
    made = runs.find_stage(name)
    if not made:
        return f"no run of {name} is known: neither in .cotejo/journal nor in MLflow"
    bare = sum(not run.list_digests(OUT) for run in made)
    why = f"{bare} of {len(made)} known runs carry no digests: older than their recording, or not finished"
    fits = f"none of the {len(made)} known runs made it"
    return f"which run made this is unknown: {why if bare else fits}. The last is {_say_run(made[0])}"


def _find_run_breaks(run: KnownRun) -> list[str]:
    breaks = []
    commit = shorten(run.tags.get("mlflow.source.git.commit", ""))
    if run.tags.get("git.dirty") == "true":
        breaks.append(f"dirty tree: the code differed from commit {commit} when it ran")
    elif not commit:
        breaks.append("no commit: it ran outside Git")
    if run.state != "FINISHED":
        breaks.append(f"the run is {run.state}")
    return breaks


def _sum_up(name: str, changes: Sequence[Change]) -> list[str]:
    """Returns a line per change, and one for all source files where they are many."""
    code = [change.path for change in changes if _is_code(change.path) and not change.is_missing]
    if len(code) <= MAX_NAMED:
        return [change.text for change in changes]
    rest = [change.text for change in changes if change.path not in code]
    return [
        f"{len(code)} source files have changed since {LOCK_FILE}: {_join(code)}; `dvc status {name}` lists them",
        *rest,
    ]


def _say_run(run: KnownRun) -> str:
    when = datetime.fromtimestamp(run.time_ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M")
    session = run.tags.get("dvc.exp_name") or run.session
    where = f" in {session}" if session and session != run.name else ""
    commit = run.tags.get("mlflow.source.git.commit", "")
    code = f", commit {shorten(commit)}" if commit else ""
    return f"{shorten(run.identity)} {run.name}{where}, {when}, {run.state}{code}"


def _say_outs(outs: Mapping[str, str]) -> list[tuple[str, str]]:
    kinds: dict[str, dict[str, str]] = {}
    for path, digest in outs.items():
        kind = {"data": "data", "models": "model"}.get(path.split("/")[0], "report")
        kinds.setdefault(kind, {})[path] = digest
    return [(kind, _say_digests(paths)) for kind, paths in kinds.items()]


def _say_digests(digests: Mapping[str, str]) -> str:
    return ", ".join(f"{path} {shorten(digest)}" for path, digest in digests.items())


def _say_base(revision: str) -> str:
    return shorten(ask_git("rev-parse", f"{revision}^") or "no commit")


def _join(names: Sequence[str]) -> str:
    named = ", ".join(names[:MAX_NAMED])
    return f"{named} and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else named


def _count(number: int, what: str) -> str:
    return count(number, what) if number else ""


def _is_code(path: str) -> bool:
    return path.split("/")[0] in ("src", "stages")


def _render(steps: Sequence[Step]) -> Iterator[str]:
    for step in steps:
        yield ""
        yield step.title
        for label, text in step.facts:
            yield from _wrap(f"  {label:<8}", text, " " * 10)
        for text in step.breaks:
            yield from _wrap(f"  {BROKEN:<8}", text, " " * 10)
    yield ""
    broken = [step.title for step in steps if step.breaks]
    if broken:
        yield from _wrap("", f"The chain breaks at {', '.join(broken)}: see the lines with {BROKEN}.")
    else:
        yield f"The chain is whole: {_count(len(steps), 'stage')}."


def _wrap(start: str, text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=start, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _find_mlflow(root: Path) -> Any:  # noqa: ANN401 - a function that returns mlflow.MlflowClient, or None
    if not os.environ.get("MLFLOW_TRACKING_URI") and not (root / "mlflow.db").exists():
        return None
    delivery = Delivery(root.resolve(), root / STATE_FOLDER, TIMEOUT_S)
    return lambda: delivery.client


def _list_experiments() -> dict[str, str]:
    """Returns the refs of DVC's experiments by name; of one name on several commits, the newest."""
    refs = (ask_git("for-each-ref", "--sort=creatordate", "--format=%(refname)", "refs/exps") or "").splitlines()
    # refs/exps/ab/cdef.../name; DVC keeps others there for its own use
    return {ref.split("/")[4]: ref for ref in refs if len(ref.split("/")) == 5}


def _find_experiment(name: str) -> str | None:
    ref = _list_experiments().get(name)
    return ask_git("rev-parse", ref) if ref else None


def _unknown(root: Path, target: str, path: str, stages: Mapping[str, Mapping[str, Any]], runs: Runs) -> LineageError:
    readers = [name for name, stage in stages.items() if any(is_within(path, dep) for dep in stage.get("deps") or ())]
    if readers and (root / path).exists():
        return LineageError(
            expected="what a stage makes, a run's id or an experiment",
            received=f"{target}, which no stage makes and {_join(readers)} reads",
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
            f"{target}, which is none that is known.{hint}{fault} `dvc exp list` and `mlflow ui` show experiments and "
            "runs"
        ),
    )
