"""The statistics of many models on many test images: what build_comparison takes with generated predictions.

A model is right on the easier images, and no two models on quite the same ones. Their other results, which don't
grow with the images, are those of tests/synthetic_study.py.
"""

import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np

NUM_CLASSES = 10
#: Accuracy of the first model, and how much each next one is better.
ACCURACY, STEP = 0.90, 0.0005
#: How far what one training finds hard lies from what another one does.
NOISE = 0.1


def prepare(folder: str, num_models: int, num_samples: int, num_seeds: int) -> dict[str, Any]:
    """Writes predictions as evaluate does, a file a model; returns their size."""
    generator = np.random.default_rng(0)
    y_true = generator.integers(0, NUM_CLASSES, num_samples)
    hardness = generator.random(num_samples)
    sizes = []
    for number in range(num_models):
        y_prob = np.empty((num_seeds, num_samples, NUM_CLASSES), dtype=np.float32)
        for rows in y_prob:
            generator.random(out=rows, dtype=np.float32)
            rank = hardness + NOISE * generator.standard_normal(num_samples)
            edge = np.quantile(rank, ACCURACY + STEP * number)
            other = (y_true + generator.integers(1, NUM_CLASSES, num_samples)) % NUM_CLASSES
            rows[np.arange(num_samples), np.where(rank < edge, y_true, other)] += 1
            rows /= rows.sum(axis=1, keepdims=True)
        path = Path(folder) / f"model-{number:02d}.npz"
        correct = y_prob.argmax(axis=2) == y_true
        np.savez(
            path,
            seeds=np.arange(num_seeds),
            y_true=y_true,
            y_prob=y_prob,
            images_sha256=np.array("of all models"),
            val_correct=correct,
            val_losses=1 - y_prob.max(axis=2),
            corrupted_indices=np.arange(num_samples),
            corrupted_correct=correct.astype(np.uint8),
        )
        sizes.append(path.stat().st_size)
    return {"size_bytes": sum(sizes)}


def _measure(path: Path, metrics: dict[str, Any]) -> dict[str, Any]:
    """Returns metrics with the accuracies of a file's predictions, as those that belong to it have them."""
    with np.load(path, allow_pickle=False) as arrays:
        accuracies = (arrays["y_prob"].argmax(axis=2) == arrays["y_true"]).mean(axis=1)
    rows = zip(metrics["per_seed"], accuracies.tolist(), strict=True)
    return {**metrics, "per_seed": [{**row, "test_accuracy": accuracy} for row, accuracy in rows]}


def compare(folder: str, num_seeds: int) -> dict[str, Any]:
    """Compares the models whose predictions stand in a folder, as the compare stage does before it draws.

    Returns:
        The seconds of reading the files and of all statistics, without those of imports, and those that processors
        have worked on it, which a busy machine doesn't change much; how many pairs there are, how
        many of them were decided, and whether TensorFlow or Keras was imported, which it never is.
    """
    from cotejo.comparison.verdict import decide_pair
    from synthetic_study import build_comparison, build_inputs

    others = build_inputs(num_samples=200, num_seeds=num_seeds, models=["lenet", "resnet"])
    paths = sorted(Path(folder).glob("*.npz"))
    names = [path.stem for path in paths]
    declared = {
        "metrics": {path.stem: _measure(path, others["metrics"]["lenet"]) for path in paths},
        "baseline": names[0],
        "candidate": names[1],
        "stages": dict.fromkeys(names, ("train-lenet",)),
    }
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    # each array is read anew whenever it is asked for
    predictions = {path.stem: np.load(path, allow_pickle=False) for path in paths}
    comparison = build_comparison(**{**others, **declared, "predictions": predictions})
    ended_s, ended_cpu_s = time.perf_counter(), time.process_time()
    return {
        "total_time_s": ended_s - began_s,
        "processor_s": ended_cpu_s - began_cpu_s,
        "num_pairs": len(comparison.pairs),
        "num_decided": sum(decide_pair(comparison, pair) is not None for pair in comparison.pairs),
        "imports_tensorflow": bool({"tensorflow", "keras"} & set(sys.modules)),
    }
