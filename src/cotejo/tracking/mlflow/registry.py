"""Models in MLflow: each training's archive as the model of its run, the best of them in the registry."""

import os
import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from platform import python_version
from typing import Any

from cotejo.files import temporary_folder

#: Alias of the registered version that is best.
ALIAS = "champion"
#: Tags: the SHA-256 of a model's archive and of the data that it was scored on.
MODEL_TAG = "model.sha256"
DATA_TAG = "data.sha256"
#: When the last comparison was made that had a say on the champion, in milliseconds.
COMPARED_TAG = "compared_ms"
#: What serving an archive needs, pinned; left alone, MLflow imports TensorFlow a second time to find it out.
REQUIRED = ("mlflow", "keras", "tensorflow")


def takes_over(champion: Mapping[str, Any], present: Mapping[str, str] | None) -> bool:
    """Decides whether the model that a comparison serves becomes the champion.

    Only a comparison may replace a champion, by what the validation images say: one that it compared and found worse;
    one that it didn't compare where the whole interval of its validation accuracy lies below, or where the data are
    others.

    Args:
        champion: What `find_champion` has found.
        present: The tags of the present champion's version; None where there is none.
    """
    if present is None:
        return True
    digest = present.get(MODEL_TAG)
    if digest is None:  # a person has put another model there
        return False
    if digest in champion["compared"]:
        return digest not in champion["equals"]
    is_other_data = present.get(DATA_TAG) != champion["tags"][DATA_TAG]
    # older versions chose on the test images, and wrote down nothing of the validation images
    present_high = float(present.get("val_accuracy_high", 0.0))
    return is_other_data or float(champion["tags"]["val_accuracy_low"]) > present_high


def log_model(client: Any, run_id: str, record: Mapping[str, Any]) -> str:  # noqa: ANN401 - mlflow.MlflowClient
    """Stores a saved Keras model, byte for byte, as the model of a run, in the form that MLflow loads and serves.

    `mlflow.keras.log_model` would load the model to save it again: other bytes, and TensorFlow in stages and commands
    that need none.

    Args:
        client: The client.
        run_id: The run that has made the model.
        record: `path`, `digest`, `input_shape` and `num_classes`.

    Returns:
        The model's id.
    """
    from mlflow.entities import LoggedModelOutput

    run = client.get_run(run_id)
    for left in list_models(client, run):
        if left.status == "PENDING":  # a kill has left it unfinished
            client.delete_logged_model(left.model_id)
    model = client.create_logged_model(
        run.info.experiment_id,
        "model",
        run_id,
        tags={MODEL_TAG: record["digest"]},
        params=run.data.params,
    )
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    with temporary_folder() as folder:
        _write_model(folder, record, model)
        client.log_model_artifacts(model.model_id, str(folder))
    client.finalize_logged_model(model.model_id, "READY")
    return str(model.model_id)


def list_models(client: Any, run: Any) -> list[Any]:  # noqa: ANN401 - MLflow's Run and LoggedModel
    """Lists the models of a run; among its outputs there may be models that have been deleted since."""
    source = f"source_run_id = '{run.info.run_id}'"
    return list(client.search_logged_models([run.info.experiment_id], source))


def find_model(client: Any, experiment_id: str, sha256: str) -> Any | None:  # noqa: ANN401 - MLflow's LoggedModel
    """Finds the logged model with these bytes, the newest where several trainings have made them."""
    newest_first = [{"field_name": "creation_timestamp", "ascending": False}]
    found = client.search_logged_models([experiment_id], f"tags.`{MODEL_TAG}` = '{sha256}'", order_by=newest_first)
    return next((model for model in found if model.status == "READY"), None)


def find_version(client: Any, name: str, alias: str | None, version: str | None) -> Any:  # noqa: ANN401 - MLflow's own
    """Returns the version of a registered model that an alias stands for, or that has this number."""
    return client.get_model_version_by_alias(name, alias) if alias else client.get_model_version(name, version)


def fetch_archive(uri: str, folder: Path) -> Path:
    """Copies the archive of a Keras model that MLflow keeps, byte for byte.

    Args:
        uri: Where a logged model's files are, or `models:/` with a registered model's name and its version or alias.
        folder: Where to put it.

    Returns:
        The `.keras` file. MLflow's own exceptions pass through.
    """
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # it would be drawn across our own
    from mlflow.artifacts import download_artifacts

    return Path(download_artifacts(artifact_uri=f"{uri}/data/model.keras", dst_path=str(folder)))


def register_champion(client: Any, name: str, model: Any, record: Mapping[str, Any]) -> None:  # noqa: ANN401
    """Gives a logged model a version and the alias, if it is to take over; a version of the same bytes is used again.

    To be called by one process at a time. A comparison that was made before the last one that had a say changes
    nothing, so that a record may be sent twice, and late.

    Args:
        client: MLflow's client.
        name: Name of the registered model.
        model: The logged model.
        record: What `find_champion` has found, with `time_ms`.
    """
    registered = _find_or_create_registered(client, name)
    if int(registered.tags.get(COMPARED_TAG, 0)) >= record["time_ms"]:
        return
    present = registered.aliases.get(ALIAS)
    tags = client.get_model_version(name, present).tags if present is not None else None
    if takes_over(record, tags):
        versions = client.search_model_versions(f"name = '{name}'")
        same = [found for found in versions if found.tags.get(MODEL_TAG) == record["sha256"]]
        version = (
            same[0]
            if same
            else client.create_model_version(
                name,
                f"models:/{model.model_id}",
                model.source_run_id,
                {**record["tags"], MODEL_TAG: record["sha256"]},
                description=record["description"],
                model_id=model.model_id,
            )
        )
        client.set_registered_model_alias(name, ALIAS, version.version)
    client.set_registered_model_tag(name, COMPARED_TAG, str(record["time_ms"]))


def _find_or_create_registered(client: Any, name: str) -> Any:  # noqa: ANN401 - MLflow's own
    found = client.search_registered_models(f"name = '{name}'")
    description = "The best models on the validation images of Cotejo's comparisons; the champion is the present one."
    return client.get_registered_model(name) if found else client.create_registered_model(name, description=description)


def _write_model(folder: Path, record: Mapping[str, Any], logged: Any) -> None:  # noqa: ANN401 - MLflow's LoggedModel
    """Writes what `mlflow.keras.save_model` writes, around the archive as it is."""
    import numpy as np
    from mlflow import pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    (folder / "data").mkdir()
    (folder / "data" / "keras_module.txt").write_text("keras")
    shutil.copyfile(record["path"], folder / "data" / "model.keras")
    pinned = [f"{name}=={metadata.version(name)}" for name in REQUIRED]
    (folder / "requirements.txt").write_text("\n".join(pinned) + "\n")
    (folder / "python_env.yaml").write_text(f"python: {python_version()}\ndependencies:\n- -r requirements.txt\n")
    inputs = TensorSpec(np.dtype("uint8"), (-1, *record["input_shape"]))
    outputs = TensorSpec(np.dtype("float32"), (-1, record["num_classes"]))
    model = Model(
        artifact_path=logged.artifact_location,
        run_id=logged.source_run_id,
        model_uuid=logged.model_id,
        model_id=logged.model_id,
        signature=ModelSignature(inputs=Schema([inputs]), outputs=Schema([outputs])),
        model_size_bytes=Path(record["path"]).stat().st_size,
    )
    versions = {"keras_version": metadata.version("keras"), "keras_backend": "tensorflow"}
    model.add_flavor("keras", data="data", save_exported_model=False, **versions)
    pyfunc.add_to_model(model, loader_module="mlflow.keras", python_env="python_env.yaml")
    model.save(str(folder / "MLmodel"))
