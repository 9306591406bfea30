"""Everything that the study keeps of one model: scores, predictions, curves."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cotejo.data.readers import LabelledImages
from cotejo.data.splits import Dataset
from cotejo.errors import ModelError
from cotejo.evaluation.metrics import (
    average_scores,
    compute_class_scores,
    compute_scores,
    compute_wilson_interval,
    count_confusions,
    draw_sample,
)
from cotejo.evaluation.predict import predict_probabilities
from cotejo.schema import Evaluate
from cotejo.training.archive import load_model

CURVES = ("loss", "cross_entropy", "accuracy", "val_loss", "val_cross_entropy", "val_accuracy")


class Evaluation(NamedTuple):
    """One model on the test images.

    Attributes:
        summary: The content of `reports/metrics/<model>.json`.
        seeds: One per training.
        y_true: Labels, shape (num_samples,).
        y_prob: Probabilities, float32 of shape (num_seeds, num_samples, num_classes).
        confusions: Counts, rows true, columns predicted, summed over the seeds.
        histories: A row per seed and epoch: seed, epoch, and the metrics of training and validation.
    """

    summary: dict[str, Any]
    seeds: tuple[int, ...]
    y_true: NDArray[np.int64]
    y_prob: NDArray[np.float32]
    confusions: NDArray[np.int64]
    histories: pd.DataFrame


def evaluate_model(
    folder: Path, seeds: Sequence[int], test: LabelledImages, dataset: Dataset, settings: Evaluate
) -> Evaluation:
    """Scores every seed of a model on all test images.

    Args:
        folder: Holds `seed-<s>/model.keras` and `seed-<s>/history.csv`.
        seeds: The seeds that were trained.
        test: The test split.
        dataset: Class names.
        settings: The `evaluate` section.

    Raises:
        ModelError: A model is missing, damaged, or gives something that isn't a probability; or its history doesn't
            say which epoch was kept.
    """
    runs = [_evaluate_seed(folder / f"seed-{seed}", seed, test, dataset, settings) for seed in seeds]
    y_prob = np.stack([run.y_prob for run in runs])  # (num_seeds, num_samples, num_classes)
    y_pred = y_prob.argmax(axis=2)
    confusions = count_confusions(test.labels, y_pred, dataset.num_classes)
    classes = compute_class_scores(test.labels, y_pred, dataset.class_names)
    averages = average_scores([run.scores for run in runs])
    num_samples = len(test.labels)
    low, high = compute_wilson_interval(averages["test_accuracy"] * num_samples, num_samples, settings.confidence)
    summary = {
        "test_accuracy": averages["test_accuracy"],
        "test_accuracy_low": low,
        "test_accuracy_high": high,
        "confidence": settings.confidence,
        **averages,
        "sample_size": min(settings.sample_size, num_samples),
        "num_seeds": len(runs),
        **runs[0].size,
        "per_seed": [run.scores for run in runs],
        "per_class": classes.to_dict(orient="records"),
        "confusion": {"class_names": dataset.class_names, "counts": confusions.tolist()},
    }
    histories = pd.concat([run.history for run in runs])
    return Evaluation(summary, tuple(seeds), test.labels, y_prob, confusions, histories)


def save_evaluation(
    evaluation: Evaluation, name: str, class_names: Sequence[str], metrics: Path, predictions: Path, plots: Path
) -> None:
    """Writes the numbers of one model, the same bytes on every run.

    Args:
        evaluation: From `evaluate_model`.
        name: The model's name, which the files are named after.
        class_names: One name per label.
        metrics: Folder for `<name>.json`.
        predictions: Folder for `<name>.npz`, with `seeds`, `y_true` and `y_prob`.
        plots: Folder for `confusion/<name>.csv` (a row per prediction), `curves/<name>.csv` (a row per epoch, means
            over the seeds) and `histories/<name>.csv` (a row per seed and epoch), the first two for `dvc plots`.
    """
    text = json.dumps(evaluation.summary, indent=2, ensure_ascii=False, allow_nan=False)
    (metrics / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    np.savez(
        predictions / f"{name}.npz",
        seeds=np.array(evaluation.seeds),
        y_true=evaluation.y_true,
        y_prob=evaluation.y_prob,
    )
    y_pred = evaluation.y_prob.argmax(axis=2)
    names = np.array(class_names)
    tables = {
        "confusion": pd.DataFrame(
            {"actual": np.tile(names[evaluation.y_true], len(y_pred)), "predicted": names[y_pred.ravel()]}
        ),
        "curves": evaluation.histories.groupby("epoch", as_index=False)[list(CURVES)].mean(),
        "histories": evaluation.histories,
    }
    for kind, table in tables.items():
        (plots / kind).mkdir(exist_ok=True)
        table.to_csv(plots / kind / f"{name}.csv", index=False)


class _SeedRun(NamedTuple):
    scores: dict[str, Any]
    size: dict[str, int]
    y_prob: NDArray[np.float32]
    history: pd.DataFrame


def _evaluate_seed(folder: Path, seed: int, test: LabelledImages, dataset: Dataset, settings: Evaluate) -> _SeedRun:
    path = folder / "model.keras"
    model = load_model(path)
    y_prob = predict_probabilities(model, test.images, settings.batch_size)
    if not np.isfinite(y_prob).all():
        raise ModelError(f"{path}: expected finite probabilities. Received: NaN or infinity. Train it again.")
    sample = draw_sample(len(test.labels), settings.sample_size, settings.sample_seed)
    history = _read_history(folder / "history.csv")
    scores = {
        "seed": seed,
        # so that whoever reads these numbers can say of which file they are
        "model_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        **compute_scores(test.labels, y_prob, dataset.num_classes),
        "sample_right": int((y_prob.argmax(axis=1) == test.labels)[sample].sum()),
        **_describe_kept_epoch(history),
    }
    return _SeedRun(scores, _measure_size(model, path), y_prob, history.assign(seed=seed))


def _read_history(path: Path) -> pd.DataFrame:
    history = pd.read_csv(path)
    num_kept = int(history["kept"].sum()) if "kept" in history else 0
    if num_kept != 1:
        raise ModelError(f"{path}: expected one epoch marked as kept. Received: {num_kept}. Train it again.")
    return history


def _describe_kept_epoch(history: pd.DataFrame) -> dict[str, Any]:
    kept = history[history["kept"]].iloc[0]
    return {
        "epochs": len(history),
        "best_epoch": int(kept["epoch"]),
        "train_accuracy": float(kept["accuracy"]),
        "train_cross_entropy": float(kept["cross_entropy"]),
        "train_loss": float(kept["loss"]),
        "val_accuracy": float(kept["val_accuracy"]),
        "val_cross_entropy": float(kept["val_cross_entropy"]),
        "val_loss": float(kept["val_loss"]),
    }


def _measure_size(model: keras.Model, path: Path) -> dict[str, int]:
    trainable = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    return {
        "parameters": model.count_params(),
        "trainable_parameters": trainable,
        "size_bytes": path.stat().st_size,
    }
