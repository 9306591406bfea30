"""The `cotejo` command."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from ruamel.yaml import YAML

from cotejo.chain import trace
from cotejo.errors import CotejoError, ParamsError
from cotejo.masking import mask_secrets
from cotejo.params import PARAMS_FILE, load_params, parse_params, read_yaml
from cotejo.pipeline import check_pipeline
from cotejo.stage import JOURNAL_FOLDER, STATE_FOLDER
from cotejo.tracking.backlog import find_left
from cotejo.tracking.dvcfiles import PIPELINE_FILE, load_stages
from cotejo.tracking.lineage import find_root
from cotejo.tracking.mlflow_client import LOCK_TIMEOUT_S, Delivery
from cotejo.tracking.sync import send_left, show_left, show_reused

BEST_PARAMS = Path("reports/search/best_params.yaml")


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
def check() -> None:
    """Check params.yaml, and dvc.yaml against the code; all faults at once."""
    faults = []
    try:
        load_params([])
    except ParamsError as error:
        faults.append(str(error))
    try:
        faults += check_pipeline(Path())
    except ParamsError as error:  # without readable params there is nothing to hold dvc.yaml against
        faults += [] if str(error) in faults else [str(error)]
    for fault in faults:
        click.echo(fault, err=True)
    if faults:
        sys.exit(2)
    click.echo(f"{PARAMS_FILE} and the {len(load_stages(Path()))} stages of {PIPELINE_FILE}: no fault found")


@commands.command()
@click.option("--apply", is_flag=True, help="Write the values into params.yaml; comments stay.")
def best(*, apply: bool) -> None:
    """Show the search's winner, beside what params.yaml says now."""
    if not BEST_PARAMS.exists():
        raise ParamsError(f"{BEST_PARAMS} not found. Expected: the result of the search. Run `dvc repro search` first.")
    winner = read_yaml(BEST_PARAMS)
    present = read_yaml(PARAMS_FILE)
    for where, new, old in _list_changes(winner, present):
        click.echo(f"{where}: {old} -> {new}" if new != old else f"{where}: {old}")
    if apply:
        _apply(winner)
        click.echo(f"written to {PARAMS_FILE}; `git diff` shows it, `dvc repro` trains with it")


@commands.command()
@click.option("--status", is_flag=True, help="Show what is left, without contacting MLflow.")
def sync(*, status: bool) -> None:
    """Send MLflow what it could not take while the stages ran."""
    timeout_s = load_params([]).runtime.tracking_timeout_s  # refuses to run elsewhere than in a study
    root = find_root()
    folder = root / JOURNAL_FOLDER
    if status:
        left = find_left(folder)
        for line in show_left(left) if left else ["nothing left"]:
            click.echo(line)
        return
    delivery = Delivery(root, root / STATE_FOLDER, timeout_s, busy_timeout_s=LOCK_TIMEOUT_S)
    for line in send_left(folder, delivery):
        click.echo(line)
    for line in show_reused(root, folder, delivery):
        click.echo(line)


@commands.command()
@click.argument("target", metavar="FILE|RUN|EXP")
def lineage(target: str) -> None:
    """Show where a file, a run or an experiment comes from, and where that chain breaks.

    FILE is anything that a stage makes; RUN a run's id in MLflow, six characters or more; EXP a DVC experiment.
    """
    for line in trace(Path(), target):
        click.echo(line)


def _list_changes(winner: Mapping[str, Any], present: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    return [
        (f"{section}.{key}", value, present[section][key])
        for section, values in winner.items()
        for key, value in values.items()
    ]


def _apply(winner: Mapping[str, Any]) -> None:
    """Writes values into `params.yaml`, checked first, in one step, with its comments and order."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 200
    tree = yaml.load(PARAMS_FILE.read_text(encoding="utf-8"))
    for section, values in winner.items():
        tree[section].update(values)
    partial = PARAMS_FILE.with_name(f".{PARAMS_FILE.name}.part")
    with partial.open("w", encoding="utf-8") as file:
        yaml.dump(tree, file)
    try:
        parse_params(read_yaml(partial), PARAMS_FILE)
        partial.replace(PARAMS_FILE)
    finally:
        partial.unlink(missing_ok=True)
