"""The steps of a trace: what `dvc.lock` or a run records of a stage, where the trace breaks there, and their lines."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from cotejo.lineage.digests import LOCK_FILE, Difference, Locked
from cotejo.lineage.runs import KnownRun, Runs, shorten
from cotejo.lineage.tags import CODE_TAG, DEPS, OUTS, PARAMS_TAG, digest_code, is_code
from cotejo.tracking.outbox.sync import count

WIDTH = 100
#: Changes of one kind that are named one by one.
MAX_NAMED = 3
BROKEN = "!"
#: Digests of a run that its step shows, by label.
DIGEST_FACTS = {"code": CODE_TAG, "params": PARAMS_TAG}


class Step(NamedTuple):
    """A stage of the trace.

    Attributes:
        title: Name of the stage.
        facts: Labelled facts: inputs, code, params, run, data, model, report.
        breaks: Reasons why the trace breaks here, a line each.
    """

    title: str
    facts: list[tuple[str, str]]
    breaks: list[str]


def describe_locked(name: str, locked: Mapping[str, Locked], runs: Runs, breaks: list[str]) -> Step:
    """Returns a step as `dvc.lock` has it, with the run that made its outs."""
    entry = locked[name]
    inputs = {path: digest for path, digest in entry.deps.items() if not is_code(path)}
    code = [path for path in entry.deps if path not in inputs]
    sections = dict.fromkeys(key.split(".")[0] for key in entry.params)
    facts = [
        ("from", format_digests(inputs)),
        ("code", f"{_count(len(code), 'file')}, digest {shorten(digest_code(entry.deps))}" if code else ""),
        ("params", f"{', '.join(sections)}: {_count(len(entry.params), 'value')}" if sections else ""),
    ]
    makers = runs.find_makers(name, entry.outs)
    exact = [run for run in makers if not run.list_other_deps(entry.deps)]
    if makers:
        run = (exact or makers)[0]
        facts.append(("run", format_run(run)))
        breaks = [*breaks, *_find_run_breaks(run)]
        if not exact:
            breaks.append(f"the run made the same outs from other deps: {join_names(run.list_other_deps(entry.deps))}")
    else:
        breaks = [*breaks, _explain_unknown(name, runs)]
    facts += _group_outs(entry.outs)
    return Step(name, [fact for fact in facts if fact[1]], breaks)


def describe_recorded(run: KnownRun, locked: Mapping[str, Locked], unmade: Sequence[str]) -> Step:
    """Returns a step as a run has recorded it."""
    deps, outs = run.list_digests(DEPS), run.list_digests(OUTS)
    breaks = [f"no recorded run made {path} {shorten(deps[path])}" for path in unmade]
    breaks += _find_run_breaks(run)
    if not outs and run.state == "FINISHED":
        breaks.append("the run has no digests of what it made: Cotejo did not record them yet")
    elif run.stage in locked:
        now = locked[run.stage].outs
        others = [path for path in outs if now.get(path) != outs[path]]
        if others:
            breaks.append(f"not what is in {LOCK_FILE}, where {run.stage} has made another {join_names(others)}")
    facts = [
        ("from", format_digests(deps)),
        *((label, f"digest {shorten(run.tags[tag])}") for label, tag in DIGEST_FACTS.items() if tag in run.tags),
        ("run", format_run(run)),
        *_group_outs(outs),
    ]
    return Step(run.stage, [fact for fact in facts if fact[1]], breaks)


def _explain_unknown(name: str, runs: Runs) -> str:
    made = runs.find_stage(name)
    if not made:
        return f"no run of {name} is recorded, neither in .cotejo/journal nor in MLflow"
    bare = sum(not run.list_digests(OUTS) for run in made)
    why = f"{bare} of {len(made)} recorded runs have no digests: older than their recording, or not finished"
    fits = f"none of the {len(made)} recorded runs made it"
    return f"which run made this is unknown: {why if bare else fits}. The last is {format_run(made[0])}"


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


def sum_up_changes(name: str, changes: Sequence[Difference]) -> list[str]:
    """Returns a line per change, and one for all source files where they are many."""
    code = [change.path for change in changes if is_code(change.path) and not change.is_missing]
    if len(code) <= MAX_NAMED:
        return [change.text for change in changes]
    rest = [change.text for change in changes if change.path not in code]
    return [
        f"{len(code)} source files have changed since {LOCK_FILE}: {join_names(code)}; `dvc status {name}` lists them",
        *rest,
    ]


def format_run(run: KnownRun) -> str:
    """Returns a line that names a run, with its session, start, state and commit."""
    when = datetime.fromtimestamp(run.time_ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M")
    session = run.tags.get("dvc.exp_name") or run.session
    where = f" in {session}" if session and session != run.name else ""
    commit = run.tags.get("mlflow.source.git.commit", "")
    code = f", commit {shorten(commit)}" if commit else ""
    return f"{shorten(run.identity)} {run.name}{where}, {when}, {run.state}{code}"


def _group_outs(outs: Mapping[str, str]) -> list[tuple[str, str]]:
    kinds: dict[str, dict[str, str]] = {}
    for path, digest in outs.items():
        kind = {"data": "data", "models": "model"}.get(path.split("/")[0], "report")
        kinds.setdefault(kind, {})[path] = digest
    return [(kind, format_digests(paths)) for kind, paths in kinds.items()]


def format_digests(digests: Mapping[str, str]) -> str:
    """Returns paths with their shortened digests."""
    return ", ".join(f"{path} {shorten(digest)}" for path, digest in digests.items())


def join_names(names: Sequence[str]) -> str:
    """Returns the first names, and how many more there are."""
    named = ", ".join(names[:MAX_NAMED])
    return f"{named} and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else named


def _count(number: int, what: str) -> str:
    return count(number, what) if number else ""


def render_steps(steps: Sequence[Step]) -> Iterator[str]:
    """Renders the steps as lines, with a last line that says whether the trace is complete."""
    for step in steps:
        yield ""
        yield step.title
        for label, text in step.facts:
            yield from wrap_line(f"  {label:<8}", text, " " * 10)
        for text in step.breaks:
            yield from wrap_line(f"  {BROKEN:<8}", text, " " * 10)
    yield ""
    broken = [step.title for step in steps if step.breaks]
    if broken:
        yield from wrap_line("", f"The trace breaks at {', '.join(broken)}: see the lines with {BROKEN}.")
    else:
        yield f"The trace is complete: {_count(len(steps), 'stage')}."


def wrap_line(start: str, text: str, indent: str = "") -> list[str]:
    """Wraps a text at 100 columns; later lines begin with the indent."""
    return textwrap.wrap(
        text, WIDTH, initial_indent=start, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
