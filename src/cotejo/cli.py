"""The `cotejo` command."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import click
from ruamel.yaml import YAML

from cotejo.errors import CotejoError, ParamsError
from cotejo.files import replacing
from cotejo.lineage.access import open_delivery
from cotejo.lineage.digests import PIPELINE_FILE, load_lock, load_stages
from cotejo.lineage.reuse import sync_reused
from cotejo.lineage.tags import find_root
from cotejo.lineage.trace import trace
from cotejo.masking import mask_secrets
from cotejo.mending import mend_deps
from cotejo.params import PARAMS_FILE, flatten, load_params, parse_params, read_yaml
from cotejo.pipeline import check_pipeline
from cotejo.report.measure import find_measure
from cotejo.report.search_verdict import build_sentences, judge_luck, judge_search
from cotejo.report.wording import LANGUAGES, Wording
from cotejo.schema.groups import MODELS
from cotejo.serving.archives import PROCESSED
from cotejo.serving.runtimes import OPENERS
from cotejo.stage import Stopped, stop_on_signals
from cotejo.tracking.journal import JOURNAL_FOLDER
from cotejo.tracking.mlflow.connection import LOCK_TIMEOUT_S
from cotejo.tracking.outbox.backlog import find_left
from cotejo.tracking.outbox.sync import send_left, show_left

BEST_PARAMS = Path("reports/search/best_params.yaml")
SUMMARY = Path("reports/search/summary.json")
STYLES = ("table", "markdown", "json")


def main() -> None:
    """Runs the command; a fault that the user can mend is one message and exit code 2."""
    try:
        commands()
    except CotejoError as error:
        click.echo(f"cotejo: {mask_secrets(str(error))}", err=True)
        sys.exit(2)


@click.group()
@click.version_option(package_name="cotejo")
def commands() -> None:
    """Which image classifier is better on these images, by how much, and at what cost?

    The study itself is run by `dvc repro`; these commands look after it.
    """


@commands.command()
@click.option("--fix", is_flag=True, help="First write the deps of dvc.yaml that are source files from the imports.")
def check(*, fix: bool) -> None:
    """Check params.yaml, and dvc.yaml against the code; all faults at once."""
    faults: list[str] = []
    with _collecting(faults):
        load_params([])
    if fix:
        with _collecting(faults):
            for line in mend_deps(Path()):
                click.echo(line)
    with _collecting(faults):
        faults += check_pipeline(Path())
    for fault in faults:
        click.echo(fault, err=True)
    if faults:
        sys.exit(2)
    click.echo(f"{PARAMS_FILE} and the {len(load_stages(Path()))} stages of {PIPELINE_FILE}: no fault found")


@commands.command()
@click.option("--apply", is_flag=True, help="Write the values into params.yaml; comments stay.")
def best(*, apply: bool) -> None:
    """Show the search's winner, beside what params.yaml says now."""
    winner, summary = _read_winner()
    present = read_yaml(PARAMS_FILE)
    wording, measure = Wording("en"), find_measure(summary["metric"])
    sentences = build_sentences(summary, "en", autoescape=False)
    click.echo(sentences.render_findings(judge_search(summary)))
    if luck := judge_luck(summary):
        click.echo(sentences.render_finding(luck))
    if number := summary["best"]["number"]:
        before, after = (measure.format(wording, summary[side]["value"]) for side in ("present", "best"))
        click.echo(
            f"In the search, {measure.get_name(wording)}: {before} with the declared values, {after} in trial {number}."
        )
    changes = _list_changes(winner, present)
    for where, new, old in changes:
        click.echo(f"  {where}: {old} -> {new}" if new != old else f"  {where}: {old}")
    for where, searched_from, now in _list_stale(summary, present):
        click.echo(f"{PARAMS_FILE} has changed since the search: {where} was {searched_from}, it is {now} now.")
    if _is_of_other_data():
        click.echo("The search was run on other images than the study has now: `dvc repro search` runs it on these.")
    if not apply:
        return
    if all(new == old for _, new, old in changes):
        click.echo(f"{PARAMS_FILE} has these values already; nothing was written")
        return
    _apply(winner)
    click.echo(f"written to {PARAMS_FILE}; `git diff` shows it, `dvc repro` trains with it")


@commands.command()
@click.option("--status", is_flag=True, help="Show what is left, without contacting MLflow.")
def sync(*, status: bool) -> None:
    """Send MLflow what it could not take while the stages ran."""
    params = load_params([])  # refuses to run elsewhere than in a study
    root = find_root()
    folder = root / JOURNAL_FOLDER
    if status:
        left = find_left(folder)
        for line in show_left(left) if left else ["nothing left"]:
            click.echo(line)
        return
    delivery = open_delivery(root, params, busy_timeout_s=LOCK_TIMEOUT_S)
    for line in send_left(folder, delivery):
        click.echo(line)
    for line in sync_reused(root, delivery):
        click.echo(line)


@commands.command()
@click.argument("target", metavar="FILE|RUN|EXP")
def lineage(target: str) -> None:
    """Show where a file, a run or an experiment comes from, and where that trace breaks.

    FILE is anything that a stage makes; RUN a run's id in MLflow, six characters or more; EXP a DVC experiment.
    """
    for line in trace(Path(), target):
        click.echo(line)


@commands.command()
@click.argument("revisions", metavar="REV_OR_EXP...", nargs=-1, required=True)
@click.option("--model", "models", type=click.Choice(MODELS), multiple=True, help="[default: the two of `compare`]")
@click.option("--format", "style", type=click.Choice(STYLES), default="table", show_default=True)
@click.option("--markdown", "style", flag_value="markdown", help="The same as --format markdown.")
@click.option("--json", "style", flag_value="json", help="The same as --format json.")
@click.option("--language", type=click.Choice(LANGUAGES), help="[default: compare.language]")
def compare(revisions: tuple[str, ...], models: tuple[str, ...], style: str, language: str | None) -> None:
    """Show branches, tags, commits or experiments side by side, with the report's statistics.

    The first one is what the others are compared with; `workspace` stands for the files as they are. Nothing is
    checked out: what is read comes from Git and DVC's cache.
    """
    # DVC takes a moment to import, and the other commands don't need it
    from cotejo.revisions.contrast import build_side_by_side
    from cotejo.revisions.rendering import render
    from cotejo.revisions.results import load_results

    settings = load_params(["compare"]).compare
    chosen = list(dict.fromkeys(models or (settings.baseline, settings.candidate)))
    found = load_results(Path(), revisions, chosen)
    compared = build_side_by_side(found, chosen, settings.confidence, settings.margin)
    click.echo(render(compared, style, language or settings.language), nl=False)


def naming_a_model(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options that name a model to a command."""
    for option in (
        click.option(
            "--seed", type=click.IntRange(min=0), help="Which training.  [default: the best on validation images]"
        ),
        click.option(
            "--run", "run_id", metavar="RUN_ID", help="The model of a run in MLflow; six characters are enough."
        ),
        click.option(
            "--model",
            help="lenet, resnet, transfer, finetune, a .keras file, or models:/name@alias.  [default: the champion]",
        ),
    ):
        command = option(command)
    return command


@commands.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@naming_a_model
@click.option("--top", type=click.IntRange(min=1), metavar="K", help="Classes of each picture.  [default: 3]")
@click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True)
@click.option("--json", "is_json", is_flag=True, help="Write JSON.")
@click.option("--csv", "is_csv", is_flag=True, help="Write CSV.")
@click.option("--figure", type=click.Path(path_type=Path), metavar="FILE", help="Draw the first 40 as .png or .svg.")
def predict(*, is_json: bool, is_csv: bool, **asked: Any) -> None:  # noqa: ANN401 - the fields of the request
    """Classify pictures, or all pictures in folders, with a trained model.

    A picture goes through the `preprocess.operations` that the model's training images went through. One that can't
    be classified gets a line on stderr, the others are, and the exit code is 2.
    """
    if is_json and is_csv:
        raise ParamsError(expected="--json or --csv", received="both")
    asked["style"] = "json" if is_json else "csv" if is_csv else None
    # figures and MLflow take a moment to import, and the other commands don't need them
    from cotejo.serving.prediction import PredictionRequest, predict_pictures

    if not predict_pictures(PredictionRequest(**asked), Path()):
        sys.exit(2)


@commands.command()
@click.option("--format", "target", type=click.Choice(tuple(OPENERS)), required=True)
@naming_a_model
@click.option("--output", type=click.Path(path_type=Path), metavar="PATH", help="[default: in exports/]")
@click.option(
    "--images",
    "num_images",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    help="Test images to compare with Keras on; 0: all.",
)
def export(**asked: Any) -> None:  # noqa: ANN401 - the fields of the request
    """Export a trained model as a SavedModel, for TFLite or ONNX Runtime.

    The file is run in its own runtime on test images, and written only if it answers as Keras does.
    """
    # MLflow takes a moment to import, and the other commands don't need it
    from cotejo.serving.export import ExportRequest, export_model

    stop_on_signals()
    try:
        for line in export_model(ExportRequest(**asked), Path()).lines:
            click.echo(line)
    except Stopped as stopped:
        click.echo(f"cotejo: stopped by {stopped}", err=True)
        sys.exit(stopped.exit_code)


@contextmanager
def _collecting(faults: list[str]) -> Iterator[None]:
    """Adds the fault that a block raises, once: without readable params, several blocks raise the same one."""
    try:
        yield
    except ParamsError as error:
        faults += [] if str(error) in faults else [str(error)]


def _read_winner() -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads the search's winner and its summary."""
    for path in (BEST_PARAMS, SUMMARY):
        if not path.exists():
            raise ParamsError(
                where=path,
                expected="the result of the search",
                received="no file",
                advice="Run `dvc repro search` first",
            )
    try:
        summary = json.loads(SUMMARY.read_text(encoding="utf-8"))
        if summary["epochs"] >= 0 and summary["metric"] and summary["best"] and summary["present"]["values"]:
            return read_yaml(BEST_PARAMS), summary
    except (ValueError, LookupError, TypeError):
        pass
    raise ParamsError(
        where=SUMMARY,
        expected="what this version's search writes",
        received="another file, or half of one",
        advice="Run `dvc repro search`",
    )


def _list_changes(winner: Mapping[str, Any], present: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Lists what the winner says, by dotted name, with what `params.yaml` says.

    Raises:
        ParamsError: It has no such parameter: the search is of another version of the study.
    """
    now, changes = dict(flatten(present)), []
    for where, value in flatten(winner):
        if where not in now:
            raise ParamsError(
                where=BEST_PARAMS,
                expected=f"parameters that {PARAMS_FILE} has",
                received=where,
                advice="The search was run with another version of it: run `dvc repro search`",
            )
        changes.append((where, value, now[where]))
    return changes


def _list_stale(summary: Mapping[str, Any], present: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Lists the searched parameters whose declared value isn't that of the search's first trial, nor the winner's."""
    now, best = dict(flatten(present)), summary["best"]["values"]
    for key, value in summary["present"]["values"].items():
        where = f"{summary['model']}.{key}"
        if now.get(where) not in (value, best.get(key, value)):
            yield where, value, now.get(where)


def _is_of_other_data() -> bool:
    """Returns whether preprocess has made other images since the search, by `dvc.lock`."""
    stages = load_lock(Path())
    if not {"search", "preprocess"} <= stages.keys():
        return False
    return stages["search"].deps.get(PROCESSED) != stages["preprocess"].outs.get(PROCESSED)


def _apply(winner: Mapping[str, Any]) -> None:
    """Writes values into `params.yaml`, checked first, in one step, with its comments and order."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 200
    # left alone, null would become an empty value
    yaml.representer.add_representer(
        type(None), lambda found, _: found.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    tree = yaml.load(PARAMS_FILE.read_text(encoding="utf-8"))
    for where, value in flatten(winner):
        *path, key = where.split(".")
        reduce(getitem, path, tree)[key] = value
    with replacing(PARAMS_FILE) as partial:
        with partial.open("w", encoding="utf-8") as file:
            yaml.dump(tree, file)
        parse_params(read_yaml(partial), PARAMS_FILE)
