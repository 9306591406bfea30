"""Measures the latency of a model: for one image, and for many at once."""

import json
import time
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from cotejo.evaluation.predict import predict_probabilities
from cotejo.schema.groups import ModelName
from cotejo.schema.results import Latency, ServingTimes
from cotejo.schema.study import Evaluate
from cotejo.training.archive import load_model
from cotejo.training.hardware import Hardware, describe_hardware
from cotejo.upstream import count_graphs

#: Calls after the last one that has built a graph, before the first that is timed.
WARM_UPS = 5
#: Number of single images that are timed per batch.
IMAGES_PER_BATCH_ROUND = 10


def measure_latencies(
    folders: Mapping[ModelName, Path], seed: int, images: NDArray[np.uint8], settings: Evaluate
) -> dict[ModelName, Latency]:
    """Measures one seed of each model; nothing else should run meanwhile.

    Args:
        folders: By the model's name; hold `seed-<s>/model.keras`.
        seed: Whose model.
        images: Test images, shape (num_samples, height, width, channels).
        settings: The `evaluate` section.

    Raises:
        ModelError: A model is missing or damaged.
    """
    paths = {name: folder / f"seed-{seed}" / "model.keras" for name, folder in folders.items()}
    return {
        name: measure_latency(load_model(path), images, settings.batch_size, settings.latency_rounds)
        for name, path in paths.items()
    }


def measure_latency(model: keras.Model, images: NDArray[np.uint8], batch_size: int, rounds: int) -> Latency:
    """Times a loaded model as a user would serve it: uint8 images in memory to probabilities in memory.

    It is `predict_probabilities`, which is what `cotejo predict` and every score of the study use: Keras's
    `predict_on_batch`, a compiled `tf.function` that is built at the first call. Those first calls aren't timed.

    Args:
        model: A model that has just been loaded: one that has answered batches already is built for any size.
        images: Test images, shape (num_samples, height, width, channels).
        batch_size: Images of a batch; all of them if there are fewer.
        rounds: Answers for one image that are timed, each for another image.
    """
    batch = np.array(images[:batch_size])  # in memory: a disk isn't what is measured
    single_s = _time_answers(model, [batch[place : place + 1] for place in range(len(batch))], rounds)
    batch_s = _time_answers(model, [batch], max(1, rounds // IMAGES_PER_BATCH_ROUND))
    p50, p95 = np.quantile(single_s, (0.5, 0.95))
    return Latency(
        latency_p50_s=round(float(p50), 7),
        latency_p95_s=round(float(p95), 7),
        throughput_images_per_s=round(float(len(batch) / np.median(batch_s)), 1),
        batch_size=len(batch),
        num_timed=rounds,
    )


def save_latencies(latencies: Mapping[ModelName, Latency], hardware: Hardware, path: Path) -> None:
    """Writes what was measured beside what it was measured on, apart from the metrics: no two runs give the same."""
    times = ServingTimes(
        **describe_hardware(hardware), per_model={str(name): latency for name, latency in latencies.items()}
    )
    path.write_text(json.dumps(times.model_dump(), indent=2) + "\n", encoding="utf-8")


def _time_answers(model: keras.Model, batches: list[NDArray[np.uint8]], rounds: int) -> list[float]:
    _warm_up(model, batches[0])
    times = []
    for number in range(rounds):
        batch = batches[number % len(batches)]
        began_s = time.perf_counter()
        predict_probabilities(model, batch, len(batch))
        times.append(time.perf_counter() - began_s)
    return times


def _warm_up(model: keras.Model, batch: NDArray[np.uint8]) -> None:
    """Calls a model until it builds no graph any more, and some more times."""
    num_traces = -1
    num_quiet = 0
    while num_quiet < WARM_UPS:
        predict_probabilities(model, batch, len(batch))
        known, num_traces = num_traces, count_graphs(model)
        num_quiet = num_quiet + 1 if num_traces == known else 0
