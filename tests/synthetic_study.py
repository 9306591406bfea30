"""A made-up study, seeded: what evaluate and the training stages hand to compare, without training anything."""

import hashlib
import itertools
import json
from copy import deepcopy
from functools import cache

import numpy as np
import pandas as pd
from sklearn import metrics as sk
from statsmodels.stats.proportion import proportion_confint

from cotejo.comparison import verdict
from cotejo.errors import DataError
from cotejo.evaluation.metrics import average_scores, compute_scores
from cotejo.schema.results import Metrics, ServingTimes, StageTimes, load_result

CLASS_NAMES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
#: The class that each class is most often taken for.
TAKEN_FOR = [6, 3, 4, 6, 2, 7, 0, 9, 6, 7]
#: Accuracy, parameters, training time, epoch time, images/s, file size, peak memory.
MODELS = {
    "lenet": (0.895, 61_706, 41.3, 4.02, 13_400.0, 285_000, 612e6),
    "resnet": (0.914, 227_210, 623.0, 61.8, 874.0, 1_120_000, 1.42e9),
    "transfer": (0.878, 372_938, 96.0, 0.84, 64_300.0, 2_400_000, 890e6),
    "finetune": (0.903, 372_938, 512.0, 101.5, 532.0, 2_410_000, 1.91e9),
}
#: Operations of one image's way, latency of one image (half and 95 in a hundred are faster), images/s of a batch.
SERVING = {
    "lenet": (846_000, 0.0011, 0.0015, 41_000.0),
    "resnet": (87_600_000, 0.0042, 0.0058, 1_930.0),
    "transfer": (23_400_000, 0.0061, 0.0083, 2_410.0),
    "finetune": (23_400_000, 0.0061, 0.0085, 2_390.0),
}
CORRUPTIONS = ("noise", "blur", "brightness", "contrast", "translation")
#: Accuracy that each step of severity takes, whatever the model.
HARM = {"noise": 0.05, "blur": 0.07, "brightness": 0.02, "contrast": 0.03, "translation": 0.06}
#: Columns of a history as evaluate writes it; the epoch that is kept is the last one.
HISTORY = ["epoch", "accuracy", "cross_entropy", "loss", "val_accuracy", "val_cross_entropy", "val_loss",
           "learning_rate", "kept", "seed"]  # fmt: skip
#: The early_stopping of every model's parameters: the epoch with the lowest validation loss is kept.
EARLY_STOPPING = {"monitor": "val_loss", "mode": "min", "patience": 0, "min_delta": 0.0, "restore_best": True}
STAGES = {"lenet": "train-lenet", "resnet": "train-resnet", "transfer": "transfer-learn", "finetune": "finetune"}


def build_comparison(metrics, timings, **others):
    """Compares the models after loading the content of their files, as the compare stage does."""
    stages = {stage: load(StageTimes, content, f"timings/{stage}", stage) for stage, content in timings.items()
              if stage != "evaluate"}  # fmt: skip
    serving = load(ServingTimes, timings["evaluate"], "timings/evaluate") if "evaluate" in timings else None
    return verdict.build_comparison(metrics=load_metrics(metrics), timings=stages, serving=serving, **others)


def load_metrics(contents):
    """Loads `reports/metrics/<model>.json` by model."""
    return {name: load(Metrics, content, f"metrics/{name}") for name, content in contents.items()}


def load(record, content, name, stage="evaluate"):
    """Loads what a file of the reports would hold."""
    where = f"reports/{name}.json"
    return load_result(record, json.dumps(content), where, f"Run `dvc repro {stage}`.", DataError)


def build_inputs(num_samples=2000, num_seeds=2, models=MODELS, weights="imagenet", **accuracies):
    """Returns the keyword arguments of build_comparison for lenet against resnet: a copy of its own for each call."""
    return deepcopy(_draw_inputs(num_samples, num_seeds, tuple(models), weights, tuple(sorted(accuracies.items()))))


@cache
def _draw_inputs(num_samples, num_seeds, models, weights, accuracies):
    accuracies = dict(accuracies)
    generator = np.random.default_rng(7)
    y_true = np.arange(num_samples) % len(CLASS_NAMES)
    # shirts are hard, trousers are easy, whatever the model: models err on the same images
    ease = np.array([0.02, 0.09, 0.0, 0.04, 0.0, 0.07, -0.17, 0.06, 0.09, 0.07])[y_true]
    hardness = generator.normal(size=num_samples)
    predictions, tables = {}, {}
    for name in models:
        accuracy = accuracies.get(name, MODELS[name][0])
        y_prob = np.stack([_predict(generator, y_true, hardness, accuracy + ease) for _ in range(num_seeds)])
        tables[name] = _measure(name, y_true, y_prob)
        predictions[name] = {
            "seeds": np.arange(num_seeds), "y_true": y_true, "y_prob": y_prob, "images_sha256": np.array("ab12" * 16),
            **_draw_by_image(num_samples, num_seeds, accuracy, tables[name]["test_corrupted_accuracy"]),
        }  # fmt: skip
    return {
        "metrics": tables,
        "predictions": predictions,
        "timings": {STAGES[name]: _time(STAGES[name], MODELS[name], num_seeds) for name in models}
                   | {"evaluate": _time_serving(models)},
        "dataset": build_dataset(y_true),
        "facts": {
            "git_commit": "3f9c2d18a0b74e65c1d2e3f405162738495a6b7c", "dirty": False, "stage": "compare",
            "weights": weights, "backbone": "MobileNet",
            "params": {"base.seeds": list(range(num_seeds)), "base.threads": 2, "data.name": "fashion_mnist",
                       "lenet.learning_rate": 0.001, "compare.language": "en", "transfer.augmentation.rotation": 0.0,
                       **{f"{name}.early_stopping.{key}": value for name in models
                          for key, value in EARLY_STOPPING.items()}},
        },
        "baseline": "lenet", "candidate": "resnet", "confidence": 0.95, "margin": 0.01,
        "gallery_size": 8,
    }  # fmt: skip


def _draw_by_image(num_samples, num_seeds, accuracy, corrupted_accuracy):
    """Draws what evaluate keeps of each validation image, and of each test image that it corrupts."""
    # its own generator: what else is drawn stays as it is
    generator = np.random.default_rng(5)
    hardness = generator.normal(size=num_samples)
    ranks = 0.8 * hardness + 0.6 * generator.normal(size=(num_seeds, num_samples))
    correct = ranks < np.quantile(ranks, accuracy)
    losses = np.where(correct, generator.exponential(0.1, ranks.shape), generator.exponential(1.5, ranks.shape))
    indices = np.arange(min(200, num_samples))
    counts = generator.binomial(25, corrupted_accuracy, size=(num_seeds, len(indices)))
    return {
        "val_correct": correct, "val_losses": losses.astype(np.float32),
        "corrupted_indices": indices, "corrupted_correct": counts.astype(np.uint8),
    }  # fmt: skip


def build_histories(num_seeds=2, models=MODELS, epochs=10):
    """Returns histories by model: training keeps falling, validation levels off."""
    generator = np.random.default_rng(3)
    histories = {}
    for name in models:
        rows = []
        for seed in range(num_seeds):
            for epoch in range(1, epochs + 1):
                loss = 0.16 + 0.5 * np.exp(-epoch / 4) + generator.normal() * 0.004
                val_loss = 0.26 + 0.35 * np.exp(-epoch / 2) + 0.004 * epoch + generator.normal() * 0.008
                accuracies = (1 - 0.36 * loss, 1 - 0.36 * val_loss)
                # losses hold a penalty of 0.1
                rows.append((epoch, accuracies[0], loss, loss + 0.1, accuracies[1], val_loss, val_loss + 0.1, 1e-3,
                             epoch == epochs, seed))  # fmt: skip
        histories[name] = pd.DataFrame(rows, columns=HISTORY)
    return histories


def build_gallery(comparison):
    """Returns a picture for every test image that the comparison shows, by index: stripes, another width each."""
    shown = [*comparison.disagreements, *(row for rows in comparison.errors.values() for row in rows)]
    ramp = np.add.outer(np.arange(28), np.arange(28))
    return {row.index: (ramp * (3 + row.index % 29) % 256).astype(np.uint8)[..., None] for row in shown}


def build_dataset(y_true):
    per_class = {name: int((y_true == index).sum()) for index, name in enumerate(CLASS_NAMES)}
    split = {"num_samples": len(y_true), "per_class": per_class, "digest": "ab12" * 16}
    return {
        "name": "fashion_mnist", "class_names": CLASS_NAMES, "image_shape": [28, 28, 1],
        "digest": "9f3c" * 16,
        "splits": {"train": split | {"num_samples": 54_000}, "val": split | {"num_samples": 6_000}, "test": split},
        "source": {"title": "Fashion-MNIST", "homepage": "https://github.com/zalandoresearch/fashion-mnist",
                   "licence": "MIT"},
    }  # fmt: skip


def measure_again(inputs, name):
    """Brings a model's metrics to its predictions of the test images, after a test has changed them."""
    arrays = inputs["predictions"][name]
    found = _measure(name, arrays["y_true"], arrays["y_prob"])
    # of the validation images nothing has changed
    for row, before in zip(found["per_seed"], inputs["metrics"][name]["per_seed"], strict=False):
        row |= {key: value for key, value in before.items() if key.startswith("val_")}
    inputs["metrics"][name] = found


def keep_seeds(inputs, name, num_seeds):
    """Leaves a model the first of its seeds alone."""
    arrays = inputs["predictions"][name]
    for key in ("seeds", "y_prob", "val_correct", "val_losses", "corrupted_correct"):
        arrays[key] = arrays[key][:num_seeds]
    del inputs["timings"][STAGES[name]]["per_seed"][num_seeds:]
    measure_again(inputs, name)


def digest_of(name, seed):
    """The SHA-256 of a model that was never saved."""
    return hashlib.sha256(f"{name} {seed}".encode()).hexdigest()


def _predict(generator, y_true, hardness, accuracy):
    noise = generator.normal(size=len(y_true))
    rank = 0.8 * hardness + 0.6 * noise
    edge = np.quantile(rank, np.clip(accuracy, 0.01, 0.995))
    other = generator.integers(0, len(CLASS_NAMES), size=len(y_true))
    usual = np.where(generator.random(len(y_true)) < 0.75, np.array(TAKEN_FOR)[y_true], other)
    predicted = np.where(rank < edge, y_true, usual)
    y_prob = generator.dirichlet(np.full(len(CLASS_NAMES), 0.08), size=len(y_true)) * 0.4
    y_prob[np.arange(len(y_true)), predicted] += 0.6
    return y_prob.astype(np.float32)


def _measure(name, y_true, y_prob):
    _, parameters, _, _, _, size_bytes, _ = MODELS[name]
    predicted = y_prob.argmax(axis=-1)
    accuracies = [float((row == y_true).mean()) for row in predicted]
    labels = range(len(CLASS_NAMES))
    scores = {}
    for average in ("macro", "weighted"):
        rows = [
            sk.precision_recall_fscore_support(y_true, row, labels=labels, average=average, zero_division=0)[:3]
            for row in predicted
        ]
        for kind, values in zip(("precision", "recall", "f1"), zip(*rows, strict=True), strict=True):
            scores[f"test_{average}_{kind}"] = float(np.mean(values))
    accuracy = float(np.mean(accuracies))
    robustness = _measure_robustness(accuracy, len(y_true))
    per_seed = [
        {**compute_scores(y_true, y_prob[seed], len(CLASS_NAMES)),
         "seed": seed, "model_sha256": digest_of(name, seed),
         "test_accuracy": value, "test_loss": 0.3 - 0.01 * seed, "test_macro_f1": value,
         "test_ece": 0.04 + 0.001 * seed, "test_ece_scaled": 0.012, "test_nll_scaled": 0.28,
         "temperature": 1.4 + 0.1 * seed, "test_aurc": 0.02, "test_confidence_gap": 0.01, "test_selective_risk": 0.02,
         "min_val_epoch": 8 - seed, "final_gap": 0.12 + 0.01 * seed,
         "test_corrupted_accuracy": robustness["test_corrupted_accuracy"] + 0.002 * (seed - (len(accuracies) - 1) / 2),
         "sample_right": 90 + seed, "epochs": 10, "best_epoch": 8 - seed, "val_accuracy": value + 0.002,
         "val_cross_entropy": 1.2 - value + 0.002 * seed, "val_loss": 1.3 - value + 0.002 * seed,
         "train_accuracy": value + 0.04, "train_cross_entropy": 0.18, "train_loss": 0.28}
        for seed, value in enumerate(accuracies)
    ]  # fmt: skip
    matrix = sum(sk.confusion_matrix(y_true, row, labels=labels) for row in predicted)
    return {
        **average_scores(per_seed),
        "test_accuracy": accuracy, "test_accuracy_low": accuracy - 0.008, "test_accuracy_high": accuracy + 0.008,
        "test_accuracy_files_low": accuracy - 0.006, "test_accuracy_files_high": accuracy + 0.006,
        "val_accuracy_low": accuracy - 0.007, "val_accuracy_high": accuracy + 0.009,
        "confidence": 0.95, "test_loss": 0.3, "test_loss_low": 0.28, "test_loss_high": 0.32, **scores,
        "test_macro_f1_low": scores["test_macro_f1"] - 0.007, "test_macro_f1_high": scores["test_macro_f1"] + 0.007,
        "test_ece": 0.041, "test_ece_scaled": 0.012, "test_nll_scaled": 0.28, "temperature": 1.45,
        "temperature_low": 1.3, "temperature_high": 1.6,
        **_measure_trust(y_true, y_prob), **robustness, "operations": SERVING[name][0],
        "sample_right": 100 * accuracy, "sample_size": 100,
        "parameters": parameters,
        "trainable_parameters": parameters - (218_000 if name in ("transfer", "finetune") else 0),
        "size_bytes": size_bytes, "dvc_digest": digest_of(name, "all")[:32] + ".dir",
        "num_seeds": len(predicted), "per_seed": per_seed, "per_class": [],
        "confusion": {"class_names": CLASS_NAMES, "counts": matrix.tolist()},
    }  # fmt: skip


def _measure_trust(y_true, y_prob):
    confidence, right = y_prob.max(axis=-1), y_prob.argmax(axis=-1) == y_true
    edges = np.linspace(0, 1, 16)
    bins = []
    for low, high in itertools.pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            bins.append(
                {
                    "low": float(low),
                    "high": float(high),
                    "count": int(inside.sum()),
                    "confidence": float(confidence[inside].mean()),
                    "accuracy": float(right[inside].mean()),
                }
            )
    # what a temperature does to them: confidence goes halfway to the accuracy
    scaled = [row | {"confidence": (row["confidence"] + row["accuracy"]) / 2} for row in bins]
    order = np.argsort(-confidence, axis=-1)
    risks = 1 - np.cumsum(np.take_along_axis(right, order, -1), axis=-1) / np.arange(1, len(y_true) + 1)
    coverages = [step / 20 for step in range(1, 21)]
    ends = [max(1, round(coverage * len(y_true))) - 1 for coverage in coverages]
    gap = float(confidence.mean() - right.mean())
    risk = float(risks[:, ends[15]].mean())
    return {
        "test_confidence_gap": gap, "test_confidence_gap_low": gap - 0.01, "test_confidence_gap_high": gap + 0.01,
        "test_selective_risk": risk, "test_selective_risk_low": risk - 0.005, "test_selective_risk_high": risk + 0.005,
        "reliability": bins, "reliability_scaled": scaled, "test_aurc": float(risks.mean()),
        "risk_coverage": [{"coverage": coverage, "risk": float(risks[:, end].mean())}
                          for coverage, end in zip(coverages, ends, strict=True)],
    }  # fmt: skip


def _measure_robustness(accuracy, num_samples):
    def say(corruption, severity):
        share = max(0.1, accuracy - HARM.get(corruption, 0) * severity)
        low, high = proportion_confint(round(share * num_samples), num_samples, method="wilson")
        return {"corruption": corruption, "severity": severity, "accuracy": share, "low": low, "high": high}

    corrupted = [say(corruption, severity) for corruption in CORRUPTIONS for severity in range(1, 6)]
    mean = float(np.mean([row["accuracy"] for row in corrupted]))
    return {"robustness": [say("none", 0), *corrupted], "test_corrupted_accuracy": mean,
            "test_corrupted_accuracy_low": mean - 0.008, "test_corrupted_accuracy_high": mean + 0.008}  # fmt: skip


def _time_serving(models):
    return {
        "machine": "AMD EPYC, 2 cores", "device": "cpu", "threads": 2,
        "per_model": {
            name: {"latency_p50_s": p50, "latency_p95_s": p95, "throughput_images_per_s": throughput,
                   "batch_size": 256, "num_timed": 200}
            for name, (_, p50, p95, throughput) in SERVING.items() if name in models
        },
    }  # fmt: skip


def _time(stage, numbers, num_seeds):
    _, _, train_time_s, epoch_time_s, images_per_s, _, peak_memory_bytes = numbers
    rows = [
        {"seed": seed, "train_time_s": train_time_s + seed, "epoch_time_s": epoch_time_s,
         "images_per_s": images_per_s, "peak_memory_bytes": int(peak_memory_bytes)}
        for seed in range(num_seeds)
    ]  # fmt: skip
    return {"stage": stage, "machine": "AMD EPYC, 2 cores", "device": "cpu", "threads": 2, "per_seed": rows}
