"""Everything that the study keeps of one model: scores, predictions, curves."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cotejo.data.readers import LabelledImages
from cotejo.data.splits import Dataset, load_dataset, load_split
from cotejo.errors import ModelError
from cotejo.estimation.estimates import Scores, estimate_mean
from cotejo.evaluation.calibration import HIGHEST_TEMPERATURE, LOWEST_TEMPERATURE
from cotejo.evaluation.metrics import (
    average_scores,
    compute_class_scores,
    compute_scores,
    count_confusions,
    draw_sample,
)
from cotejo.evaluation.predict import predict_probabilities
from cotejo.evaluation.robustness import Robustness
from cotejo.evaluation.scores import (
    compute_all_losses,
    score_confidence_gap,
    score_correct,
    score_losses,
    score_macro_f1,
    score_risk,
    score_temperatures,
)
from cotejo.evaluation.trust import Trust, compute_trust, tabulate_trust
from cotejo.files import digest_path
from cotejo.lineage.digests import compute_dvc_digest
from cotejo.models.arithmetic import count_operations
from cotejo.schema.results import Metrics
from cotejo.schema.study import Evaluate
from cotejo.training.archive import load_model

CURVES = ("loss", "cross_entropy", "accuracy", "val_loss", "val_cross_entropy", "val_accuracy")
#: Lowest and highest possible value of a score.
SHARE = (0.0, 1.0)
GAP = (-1.0, 1.0)
LOSS = (0.0, math.inf)


class Splits(NamedTuple):
    """Images that evaluate reads: test images for scores; validation images for temperature and champion.

    Attributes:
        dataset: The data set.
        val: The validation images.
        test: The test images.
        test_digest: SHA-256 of the test images, in their order.
    """

    dataset: Dataset
    val: LabelledImages
    test: LabelledImages
    test_digest: str

    @classmethod
    def load(cls, folder: Path) -> "Splits":
        """Reads what preprocess wrote; raises `DataError` where a file is missing or damaged."""
        dataset, val, test = load_dataset(folder), load_split(folder, "val"), load_split(folder, "test")
        description = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
        return cls(dataset, val, test, description["splits"]["test"]["digest"])


class Evaluation(NamedTuple):
    """One model on the test images.

    Attributes:
        summary: The content of `reports/metrics/<model>.json`: what `Metrics` declares.
        seeds: One per training.
        y_true: Labels, shape (num_samples,).
        y_prob: Probabilities, float32 of shape (num_seeds, num_samples, num_classes).
        confusions: Counts, rows true, columns predicted, summed over the seeds.
        histories: A row per seed and epoch: seed, epoch, and the metrics of training and validation.
        by_image: What `reports/predictions/<model>.npz` holds beside `seeds`, `y_true` and `y_prob`; see
            `save_evaluation`.
    """

    summary: dict[str, Any]
    seeds: tuple[int, ...]
    y_true: NDArray[np.int64]
    y_prob: NDArray[np.float32]
    confusions: NDArray[np.int64]
    histories: pd.DataFrame
    by_image: dict[str, NDArray[Any]]

    def add_robustness(self, robustness: Robustness) -> None:
        """Adds what `measure_robustness` returns of the model: each seed's accuracy to the seed's row."""
        for row, accuracy in zip(self.summary["per_seed"], robustness.accuracies, strict=True):
            row["test_corrupted_accuracy"] = accuracy
        self.summary.update(robustness.summary)
        self.by_image.update(corrupted_indices=robustness.indices, corrupted_correct=robustness.counts)

    def list_scores(self, prefix: str) -> dict[str, float]:
        """Returns the scores that have one number, by name with a prefix, for the tracked run."""
        return {f"{prefix}{name}": value for name, value in self.summary.items() if isinstance(value, float)}


def evaluate_model(folder: Path, seeds: Sequence[int], splits: Splits, settings: Evaluate) -> Evaluation:
    """Scores every seed of a model on all test images.

    Args:
        folder: Holds `seed-<s>/model.keras` and `seed-<s>/history.csv`.
        seeds: The seeds that were trained.
        splits: The images.
        settings: The `evaluate` section.

    Raises:
        ModelError: A model is missing, damaged, or gives something that isn't a probability; or its history doesn't
            say which epoch was kept.
    """
    dataset, test = splits.dataset, splits.test
    runs = [_evaluate_seed(folder / f"seed-{seed}", seed, splits, settings) for seed in seeds]
    y_prob = np.stack([run.y_prob for run in runs])  # (num_seeds, num_samples, num_classes)
    y_pred = y_prob.argmax(axis=2)
    confusions = count_confusions(test.labels, y_pred, dataset.num_classes)
    classes = compute_class_scores(test.labels, y_pred, dataset.class_names)
    averages = average_scores([run.scores for run in runs])
    val_prob = np.stack([run.val_prob for run in runs])
    val_losses = compute_all_losses(splits.val.labels, val_prob)
    summary = {
        "test_accuracy": averages["test_accuracy"],
        **_compute_intervals(runs, splits, y_prob, val_prob, settings.confidence),
        "confidence": settings.confidence,
        **averages,
        "sample_size": min(settings.sample_size, len(test.labels)),
        "num_seeds": len(runs),
        **runs[0].size,
        # by which the training's run is found in MLflow, and its outs in dvc.lock
        "dvc_digest": compute_dvc_digest(folder),
        "per_seed": [run.scores for run in runs],
        "per_class": classes.to_dict(orient="records"),
        "confusion": {"class_names": dataset.class_names, "counts": confusions.tolist()},
        **tabulate_trust([run.trust for run in runs], settings.bins),
    }
    histories = pd.concat([run.history for run in runs])
    by_image = {
        "images_sha256": np.array(splits.test_digest),
        "val_correct": val_prob.argmax(axis=2) == splits.val.labels,
        "val_losses": val_losses.astype(np.float32),
    }
    return Evaluation(summary, tuple(seeds), test.labels, y_prob, confusions, histories, by_image)


def save_evaluation(
    evaluation: Evaluation, name: str, class_names: Sequence[str], metrics: Path, predictions: Path, plots: Path
) -> None:
    """Writes the numbers of one model, the same bytes on every run.

    Args:
        evaluation: From `evaluate_model`; its summary also has what `measure_robustness` found.
        name: The model's name, which the files are named after.
        class_names: One name per label.
        metrics: Folder for `<name>.json`.
        predictions: Folder for `<name>.npz`. It holds `seeds`, shape (num_seeds,); of the test images `y_true`
            (num_samples,), `y_prob` (num_seeds, num_samples, num_classes) and `images_sha256`, their digest; of the
            validation images `val_correct` and `val_losses`, the cross-entropies in nats, both (num_seeds, num_val);
            and of the test images that were corrupted `corrupted_indices` (num_corrupted,) and `corrupted_correct`,
            on how many of its corruptions each was classified correctly (num_seeds, num_corrupted).
        plots: Folder for `confusion/<name>.csv` (a row per prediction), `curves/<name>.csv` (a row per epoch, means
            over the seeds), `histories/<name>.csv` (a row per seed and epoch), and of the summary's tables
            `reliability/<name>.csv`, `risk/<name>.csv` and `robustness/<name>.csv` (a row per severity); all but the
            histories for `dvc plots`.
    """
    text = json.dumps(evaluation.summary, indent=2, ensure_ascii=False, allow_nan=False)
    Metrics.model_validate_json(text)  # before it is written: who reads it relies on that
    (metrics / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    arrays: dict[str, Any] = {
        "seeds": np.array(evaluation.seeds),
        "y_true": evaluation.y_true,
        "y_prob": evaluation.y_prob,
        **evaluation.by_image,
    }
    np.savez(predictions / f"{name}.npz", **arrays)
    y_pred = evaluation.y_prob.argmax(axis=2)
    names = np.array(class_names)
    tables = {
        "confusion": pd.DataFrame(
            {"actual": np.tile(names[evaluation.y_true], len(y_pred)), "predicted": names[y_pred.ravel()]}
        ),
        "curves": evaluation.histories.groupby("epoch", as_index=False)[list(CURVES)].mean(),
        "histories": evaluation.histories,
        "reliability": pd.DataFrame(evaluation.summary["reliability"]),
        "risk": pd.DataFrame(evaluation.summary["risk_coverage"]),
        "robustness": _tabulate_robustness(evaluation.summary["robustness"]),
    }
    for kind, table in tables.items():
        (plots / kind).mkdir(exist_ok=True)
        table.to_csv(plots / kind / f"{name}.csv", index=False)


class _SeedRun(NamedTuple):
    scores: dict[str, Any]
    size: dict[str, int]
    y_prob: NDArray[np.float32]
    val_prob: NDArray[np.float32]
    trust: Trust
    history: pd.DataFrame


def _evaluate_seed(folder: Path, seed: int, splits: Splits, settings: Evaluate) -> _SeedRun:
    path, test = folder / "model.keras", splits.test
    model = load_model(path)
    y_prob = _predict(model, path, test, settings)
    val_prob = _predict(model, path, splits.val, settings)
    trust = compute_trust(test.labels, y_prob, splits.val.labels, val_prob, settings.bins)
    sample = draw_sample(len(test.labels), settings.sample_size, settings.sample_seed)
    history = _read_history(folder / "history.csv")
    scores = {
        "seed": seed,
        # so that whoever reads these numbers can say of which file they are
        "model_sha256": digest_path(path),
        **compute_scores(test.labels, y_prob, splits.dataset.num_classes),
        **trust.scores,
        "sample_right": int((y_prob.argmax(axis=1) == test.labels)[sample].sum()),
        **_describe_training(history),
    }
    return _SeedRun(scores, _measure_size(model, path), y_prob, val_prob, trust, history.assign(seed=seed))


def _predict(model: keras.Model, path: Path, split: LabelledImages, settings: Evaluate) -> NDArray[np.float32]:
    y_prob = predict_probabilities(model, split.images, settings.batch_size)
    if not np.isfinite(y_prob).all():
        raise ModelError(
            where=path, expected="finite probabilities", received="NaN or infinity", advice="Train it again"
        )
    return y_prob


def _compute_intervals(
    runs: Sequence[_SeedRun],
    splits: Splits,
    y_prob: NDArray[np.float32],
    val_prob: NDArray[np.float32],
    confidence: float,
) -> dict[str, float]:
    """Computes what new images and new seeds could have given; of the accuracy also what new images alone could."""
    y_true, y_pred, val_true = splits.test.labels, y_prob.argmax(axis=2), splits.val.labels
    accuracy = score_correct(y_pred == y_true)
    bounded: dict[str, tuple[Scores, tuple[float, float]]] = {
        "test_accuracy": (accuracy, SHARE),
        "test_macro_f1": (score_macro_f1(y_true, y_pred, splits.dataset.num_classes), SHARE),
        "test_loss": (score_losses(compute_all_losses(y_true, y_prob)), LOSS),
        "test_confidence_gap": (score_confidence_gap(y_true, y_prob), GAP),
        "test_selective_risk": (score_risk(y_true, y_prob), SHARE),
        "val_accuracy": (score_correct(val_prob.argmax(axis=2) == val_true), SHARE),
    }
    intervals = {
        name: estimate_mean(scores, confidence, low=low, high=high).compute_interval(confidence)
        for name, (scores, (low, high)) in bounded.items()
    }
    intervals["test_accuracy_files"] = estimate_mean(accuracy, confidence).on_these_files().compute_interval(confidence)
    logarithms = score_temperatures(val_true, val_prob, [run.scores["temperature"] for run in runs])
    # images that hardly say what it is would reach beyond every number
    least, most = math.log(LOWEST_TEMPERATURE), math.log(HIGHEST_TEMPERATURE)
    low, high = estimate_mean(logarithms, confidence, low=least, high=most).compute_interval(confidence)
    intervals["temperature"] = (math.exp(low), math.exp(high))
    return {
        f"{name}_{end}": value
        for name, ends in intervals.items()
        for end, value in zip(("low", "high"), ends, strict=True)
    }


def _tabulate_robustness(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Returns a column for each corruption beside the mean of all; severity 0, the images as they are, is in each."""
    table = pd.DataFrame(rows).pivot_table(index="severity", columns="corruption", values="accuracy", sort=False)
    clean = table.pop("none")[0]
    table.loc[0] = clean
    table.insert(0, "mean", table.mean(axis=1))
    return table.reset_index()


def _read_history(path: Path) -> pd.DataFrame:
    history = pd.read_csv(path)
    num_kept = int(history["kept"].sum()) if "kept" in history else 0
    if num_kept != 1:
        raise ModelError(where=path, expected="one epoch marked as kept", received=num_kept, advice="Train it again")
    return history


def _describe_training(history: pd.DataFrame) -> dict[str, Any]:
    kept, last = history[history["kept"]].iloc[0], history.iloc[-1]
    return {
        "epochs": len(history),
        "best_epoch": int(kept["epoch"]),
        "train_accuracy": float(kept["accuracy"]),
        "train_cross_entropy": float(kept["cross_entropy"]),
        "train_loss": float(kept["loss"]),
        "val_accuracy": float(kept["val_accuracy"]),
        "val_cross_entropy": float(kept["val_cross_entropy"]),
        "val_loss": float(kept["val_loss"]),
        # whichever epoch was kept: when validation was at its best, and how far apart both losses were at the end
        "min_val_epoch": int(history["epoch"].iloc[int(history["val_cross_entropy"].argmin())]),
        "final_gap": float(last["val_cross_entropy"] - last["cross_entropy"]),
    }


def _measure_size(model: keras.Model, path: Path) -> dict[str, int]:
    trainable = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    return {
        "parameters": model.count_params(),
        "trainable_parameters": trainable,
        "size_bytes": path.stat().st_size,
        "operations": count_operations(model),
    }
