"""A made-up study, seeded: what evaluate and the training stages hand to compare, without training anything."""

import hashlib

import numpy as np
import pandas as pd
from sklearn import metrics as sk

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
#: Columns of a history as evaluate writes it; the epoch that is kept is the last one.
HISTORY = ["epoch", "accuracy", "cross_entropy", "loss", "val_accuracy", "val_cross_entropy", "val_loss",
           "learning_rate", "kept", "seed"]  # fmt: skip
#: The early_stopping of every model's parameters: the epoch with the lowest validation loss is kept.
EARLY_STOPPING = {"monitor": "val_loss", "mode": "min", "patience": 0, "min_delta": 0.0, "restore_best": True}
STAGES = {"lenet": "train-lenet", "resnet": "train-resnet", "transfer": "transfer-learn", "finetune": "finetune"}


def build_inputs(num_samples=2000, num_seeds=2, models=MODELS, weights="imagenet", **accuracies):
    """Returns the keyword arguments of build_comparison for lenet against resnet."""
    generator = np.random.default_rng(7)
    y_true = np.arange(num_samples) % len(CLASS_NAMES)
    # shirts are hard, trousers are easy, whatever the model: models err on the same images
    ease = np.array([0.02, 0.09, 0.0, 0.04, 0.0, 0.07, -0.17, 0.06, 0.09, 0.07])[y_true]
    hardness = generator.normal(size=num_samples)
    predictions, tables = {}, {}
    for name in models:
        accuracy = accuracies.get(name, MODELS[name][0])
        y_prob = np.stack([_predict(generator, y_true, hardness, accuracy + ease) for _ in range(num_seeds)])
        predictions[name] = {"seeds": np.arange(num_seeds), "y_true": y_true, "y_prob": y_prob}
        tables[name] = _measure(name, y_true, y_prob)
    return {
        "metrics": tables,
        "predictions": predictions,
        "timings": {STAGES[name]: _time(STAGES[name], MODELS[name], num_seeds) for name in models},
        "dataset": build_dataset(y_true),
        "facts": {
            "git_commit": "3f9c2d18a0b74e65c1d2e3f405162738495a6b7c", "dirty": False, "stage": "compare",
            "weights": weights, "backbone": "MobileNet",
            "params": {"base.seeds": list(range(num_seeds)), "base.threads": 2, "data.name": "fashion_mnist",
                       "lenet.learning_rate": 0.001, "compare.language": "en", "transfer.augmentation.rotation": 0.0,
                       **{f"{name}.early_stopping.{key}": value for name in models
                          for key, value in EARLY_STOPPING.items()}},
        },
        "baseline": "lenet", "candidate": "resnet", "confidence": 0.95, "margin": 0.5,
    }  # fmt: skip


def build_histories(num_seeds=2, models=MODELS, epochs=10):
    """Returns histories by model: training goes on falling, validation levels off."""
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
    scores = {
        f"test_{average}_{kind}": float(np.mean([
            function(y_true, row, labels=labels, average=average, zero_division=0) for row in predicted]))
        for average in ("macro", "weighted")
        for kind, function in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score))
    }  # fmt: skip
    accuracy = float(np.mean(accuracies))
    per_seed = [
        {"seed": seed, "model_sha256": digest_of(name, seed),
         "test_accuracy": value, "test_loss": 0.3 - 0.01 * seed, "test_macro_f1": value,
         "sample_right": 90 + seed, "epochs": 10, "best_epoch": 8 - seed, "val_accuracy": value + 0.002,
         "val_cross_entropy": 1.2 - value + 0.002 * seed, "val_loss": 1.3 - value + 0.002 * seed,
         "train_accuracy": value + 0.04, "train_cross_entropy": 0.18, "train_loss": 0.28}
        for seed, value in enumerate(accuracies)
    ]  # fmt: skip
    matrix = sum(sk.confusion_matrix(y_true, row, labels=labels) for row in predicted)
    return {
        "test_accuracy": accuracy, "test_accuracy_low": accuracy - 0.006, "test_accuracy_high": accuracy + 0.006,
        "confidence": 0.95, "test_loss": 0.3, **scores, "sample_right": 100 * accuracy, "sample_size": 100,
        "parameters": parameters,
        "trainable_parameters": parameters - (218_000 if name in ("transfer", "finetune") else 0),
        "size_bytes": size_bytes, "num_seeds": len(predicted), "per_seed": per_seed, "per_class": [],
        "confusion": {"class_names": CLASS_NAMES, "counts": matrix.tolist()},
    }  # fmt: skip


def _time(stage, numbers, num_seeds):
    _, _, train_time_s, epoch_time_s, images_per_s, _, peak_memory_bytes = numbers
    rows = [
        {"seed": seed, "train_time_s": train_time_s + seed, "epoch_time_s": epoch_time_s,
         "images_per_s": images_per_s, "peak_memory_bytes": int(peak_memory_bytes)}
        for seed in range(num_seeds)
    ]  # fmt: skip
    return {"stage": stage, "machine": "AMD EPYC, 2 cores", "device": "cpu", "threads": 2, "per_seed": rows}
