"""Finds the archive of the model that a user means: the champion, one of the study's, a file's, or MLflow's."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from cotejo.errors import CotejoError, ModelError, ParamsError, TrackingError
from cotejo.faults import suggest_name
from cotejo.files import digest_path
from cotejo.lineage.access import find_mlflow
from cotejo.lineage.digests import load_lock
from cotejo.lineage.runs import KnownRun, Runs, shorten
from cotejo.lineage.tags import DEPS
from cotejo.lineage.trace import RUN_ID
from cotejo.schema.groups import MODELS
from cotejo.schema.results import ServedComparison, ServedMetrics, load_result
from cotejo.tracking.failures import say_cause
from cotejo.tracking.journal import JOURNAL_FOLDER
from cotejo.tracking.mlflow import registry
from cotejo.tracking.mlflow.connection import Connection

COMPARISON = Path("reports/comparison.json")
METRICS = Path("reports/metrics")
PROCESSED = "data/processed"
REGISTERED = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>[^/@]+))")
#: Runs that are named one by one.
MAX_NAMED = 6


class Archive(NamedTuple):
    """A saved model.

    Attributes:
        path: The `.keras` file.
        name: What a message calls it: the path in the study, or its place in MLflow.
        title: Which model it is and why it was taken.
        data_digest: Digest of its training data, SHA-256 or DVC's; None if it isn't recorded.
    """

    path: Path
    name: str
    title: str
    data_digest: str | None


def find_archive(root: Path, folder: Path, *, model: str | None, run_id: str | None, seed: int | None) -> Archive:
    """Finds the archive of a model.

    Args:
        root: The study's folder.
        folder: Where to put what MLflow keeps.
        model: One of the study's models, a path, or `models:/name@alias` or `models:/name/version`; None for the one
            that the study's last comparison serves: the best on the validation images.
        run_id: The id of a run in MLflow, or its first six characters or more, in place of `model`.
        seed: Which training of a model or run; None for the one with the lowest cross-entropy on the validation images.

    Raises:
        CotejoError: There is no such model.
    """
    if run_id is not None:
        if model is not None:
            raise ParamsError(expected="either --model or --run", received=f"{model} and {run_id}")
        return _find_of_run(root, folder, run_id, seed)
    if model is None:
        return _find_champion(root, seed)
    if model in MODELS:
        return _find_of_study(root, model, seed)
    if seed is not None:
        beside = f"--seed beside a model of the study ({', '.join(MODELS)}) or a run"
        raise ParamsError(expected=beside, received=f"--seed beside {model}")
    if model.startswith("models:/"):
        return _fetch_registered(root, folder, model)
    return _find_file(model)


def _find_champion(root: Path, seed: int | None) -> Archive:
    what, advice = "the study's comparison, which names the champion", "`dvc repro`, or say --model"
    content = _read(root / COMPARISON, COMPARISON, what, advice)
    comparison = load_result(ServedComparison, content, str(COMPARISON), f"Run {advice}.", ModelError)
    name, compared = comparison.served, {model.name: model.dvc_digest for model in comparison.models}
    # while the study runs, or where it was stopped, its models can be newer than the comparison
    metrics = _read_metrics(root, name)
    if metrics.dvc_digest != compared.get(name):
        raise ModelError(
            where=COMPARISON,
            expected=f"a comparison of the scores in {METRICS}/{name}.json, to name the champion",
            received="one of other trainings",
            advice=f"Run `dvc repro compare`, or say --model {name}",
        )
    digests = {row.seed: row.model_sha256 for row in metrics.per_seed}
    found = _find_of_study(root, name, seed, None if seed is None else digests.get(seed, "none"))
    return found._replace(title=f"{found.title}, the champion of {COMPARISON}", data_digest=comparison.dataset.digest)


def _find_of_study(root: Path, name: str, seed: int | None, digest: str | None = None) -> Archive:
    """Finds the archive of a seed, or of the best one; refuses another than that of a SHA-256, where there is one."""
    if seed is None:
        seed, digest = _choose_seed(root, name)
    path = Path("models", name, f"seed-{seed}", "model.keras")
    if not (root / path).exists():
        trained = ", ".join(map(str, _list_seeds(root, name))) or "none"
        raise ModelError(
            where=path,
            expected=f"the model of seed {seed}",
            received=f"no such file; seeds that are here: {trained}",
            advice=f"Run `dvc checkout models/{name}`, `dvc pull models/{name}` or `dvc repro`",
        )
    if digest is not None and digest_path(root / path) != digest:
        raise ModelError(
            where=path,
            expected=f"the training that {METRICS}/{name}.json was measured on",
            received="another one",
            advice=f"Run `dvc repro evaluate`, or say --model {name} --seed {seed}",
        )
    return Archive(root / path, str(path), f"{name}, seed {seed}", _find_data(root, name))


def _choose_seed(root: Path, name: str) -> tuple[int, str | None]:
    """Returns the seed that `find_champion` would choose, and the SHA-256 of its archive."""
    path = METRICS / f"{name}.json"
    seeds = _list_seeds(root, name)
    if len(seeds) == 1 and not (root / path).exists():
        return seeds[0], None
    best = min(_read_metrics(root, name).per_seed, key=lambda row: (row.val_cross_entropy, row.seed))
    return best.seed, best.model_sha256


def _read_metrics(root: Path, name: str) -> ServedMetrics:
    path, advice = METRICS / f"{name}.json", "`dvc repro evaluate`, or say --model and --seed"
    content = _read(root / path, path, "the scores by which one of the seeds is chosen", advice)
    return load_result(ServedMetrics, content, str(path), f"Run {advice}.", ModelError)


def _list_seeds(root: Path, name: str) -> list[int]:
    folders = (root / "models" / name).glob("seed-*/model.keras")
    seeds = (path.parent.name.removeprefix("seed-") for path in folders)
    return sorted(int(seed) for seed in seeds if re.fullmatch("[0-9]+", seed))  # a copy may be called seed-old


def _find_data(root: Path, name: str) -> str | None:
    """Returns DVC's digest of the data that the last recorded training of a model has read."""
    makers = [entry for entry in load_lock(root).values() if f"models/{name}" in entry.outs]
    return makers[0].deps.get(PROCESSED) if makers else None


def _find_file(model: str) -> Archive:
    path = Path(model)
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no such file"
        raise ModelError(
            f"expected one of {', '.join(MODELS)}, the path of a .keras archive, or models:/name@alias. Received: "
            f"{model}, {what}.{suggest_name(model, MODELS)}"
        )
    return Archive(path, model, model, None)


def _fetch_registered(root: Path, folder: Path, uri: str) -> Archive:
    match = REGISTERED.fullmatch(uri)
    if not match:
        raise ParamsError(expected="models:/name@alias or models:/name/version", received=uri)
    connection = _open_mlflow(root, uri)
    with _asking(uri, "a version of a registered model"):
        version = registry.find_version(connection.client, match["name"], match["alias"], match["version"])
        path = registry.fetch_archive(uri, folder)
    tags = version.tags
    said = f": {tags['model']}, seed {tags['seed']}" if {"model", "seed"} <= tags.keys() else ""
    return Archive(path, uri, f"{uri}, version {version.version}{said}", tags.get(registry.DATA_TAG))


def _find_of_run(root: Path, folder: Path, run_id: str, seed: int | None) -> Archive:
    if not RUN_ID.fullmatch(run_id):
        raise ParamsError(expected="a run's id in MLflow, or six characters of it or more", received=run_id)
    connection = _open_mlflow(root, run_id)
    with _asking(run_id, "a run"):
        runs = Runs(root / JOURNAL_FOLDER, connection)
        run = _find_only(runs, run_id)
        models = list(_list_models(connection.client, run, runs))
    if seed is not None:
        models = [(owner, model) for owner, model in models if owner.name.endswith(f" seed {seed}")]
    if len(models) != 1:
        raise ModelError(_say_models(run, models, seed))
    owner, model = models[0]
    with _asking(run_id, "its model's archive"):
        path = registry.fetch_archive(model.artifact_location, folder)
        above = owner if owner.is_stage else runs.find_above(owner)
    title = f"{owner.name}, run {shorten(owner.run_id)}"
    return Archive(
        path, f"run {shorten(owner.run_id)}", title, above.list_digests(DEPS).get(PROCESSED) if above else None
    )


def _find_only(runs: Runs, run_id: str) -> KnownRun:
    found = [run for run in runs.find_by_id(run_id) if run.run_id]
    if runs.fault:
        raise TrackingError(where=run_id, expected="a run that MLflow knows", received=runs.fault.partition(";")[0])
    if len(found) != 1:
        names = ", ".join(f"{shorten(run.run_id)} {run.name}" for run in found[:MAX_NAMED])
        raise ModelError(
            f"{run_id}: expected the id of one run that MLflow knows. Received: "
            + (f"that of {len(found)}: {names}." if found else "none; `cotejo sync` sends what is left.")
        )
    return found[0]


def _list_models(client: Any, run: KnownRun, runs: Runs) -> Iterator[tuple[KnownRun, Any]]:  # noqa: ANN401
    """Yields the models of a run, the newest of each, or else of the runs below it: a stage's seeds, a session's."""
    ready = [model for model in registry.list_models(client, client.get_run(run.run_id)) if model.status == "READY"]
    if ready:
        yield run, max(ready, key=lambda model: model.creation_timestamp)
        return
    for below in sorted(runs.find_below(run), key=lambda below: below.time_ms):
        if below.run_id:
            yield from _list_models(client, below, runs)


def _say_models(run: KnownRun, models: Sequence[tuple[KnownRun, Any]], seed: int | None) -> str:
    what = f"{shorten(run.run_id)} ({run.name})"
    of_seed = "" if seed is None else f" of seed {seed}"
    if not models:
        return (
            f"{what}: expected a run with a model. Received: one with none{of_seed}. Name a training's or a seed's run."
        )
    names = ", ".join(f"{shorten(owner.run_id)} {owner.name}" for owner, _ in models[:MAX_NAMED])
    more = f" and {len(models) - MAX_NAMED} more" if len(models) > MAX_NAMED else ""
    received = f"{len(models)}{of_seed}: {names}{more}"
    return f"{what}: expected a run with one model. Received: {received}. Name one of these runs."


def _open_mlflow(root: Path, asked: str) -> Connection:
    connection = find_mlflow(root)
    if connection is None:
        raise TrackingError(
            where=asked,
            expected="an MLflow to ask",
            received=f"no mlflow.db in {root.resolve()}, and no MLFLOW_TRACKING_URI",
            advice="Run in the study's folder, or set it",
        )
    return connection


@contextmanager
def _asking(where: str, expected: str) -> Iterator[None]:
    """Turns what MLflow refuses, or that it can't be reached, into one line."""
    try:
        yield
    except CotejoError:
        raise
    except Exception as error:
        raise TrackingError(
            where=where, expected=expected, received=say_cause(error), advice="`mlflow ui` shows what there is"
        ) from error


def _read(path: Path, name: Path, what: str, advice: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        received = "no such file" if isinstance(error, FileNotFoundError) else error
        raise ModelError(where=name, expected=what, received=received, advice=f"Run {advice}") from None
