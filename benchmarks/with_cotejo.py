"""Cotejo's side: training and transfer learning as its stages do them."""

import math
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import keras
from images import IMAGE_SHAPE, NUM_CLASSES, draw_images

from cotejo.data.readers import LabelledImages
from cotejo.data.splits import Dataset
from cotejo.execution.messages import Setup
from cotejo.files import STATE_FOLDER
from cotejo.models.families import load_family
from cotejo.params import load_params
from cotejo.schema.trainings import Net
from cotejo.training.checkpoint import Checkpoints
from cotejo.training.features import prepare_transfer
from cotejo.training.fit import Job, fit
from cotejo.training.hardware import configure_hardware, describe_hardware


def build_net(settings: Net) -> keras.Model:
    """Builds the declared net for generated images."""
    return load_family(settings.architecture).build_model(settings, IMAGE_SHAPE, NUM_CLASSES)


def count_trainable(model: keras.Model) -> int:
    """Counts the trainable parameters, by which the opponents' nets are told to be the same."""
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)


def train(net: str, num_samples: int, epochs: int, precision: str, *, has_checkpoints: bool = False) -> dict[str, Any]:
    """Trains a net from scratch; the clock of its training stops before validation, which the opponents don't have."""
    params = load_params(["base", net])
    settings = getattr(params, net).model_copy(update={"epochs": epochs})
    hardware = configure_hardware(Setup(params.base.threads, precision, not settings.batch_normalization))
    keras.utils.set_random_seed(0)
    split = LabelledImages(*draw_images(num_samples))
    val = LabelledImages(*draw_images(settings.batch_size))
    model = build_net(settings)
    ends_s: list[float] = []
    STATE_FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=STATE_FOLDER, prefix="benchmark-") as folder:
        places = Checkpoints(Path(folder) / "seed-0", net) if has_checkpoints else None
        job = Job.of(model, split, val)
        done = fit(job, settings, 0, net, lambda _: ends_s.append(time.perf_counter()), hardware, places)
    return {
        "train_times_s": done.times["train_time_s"].tolist(),
        # from the end of an epoch to that of the next: with validation, and the checkpoint if there is one
        "whole_epochs_s": [end - start for start, end in pairwise(ends_s)],
        "trainable_parameters": count_trainable(model),
        "machine": describe_hardware(hardware)["machine"],
    }


def transfer(num_samples: int, num_val: int, epochs: int, *, is_cached: bool) -> dict[str, Any]:
    """Fits a head on the features of a frozen backbone of random weights, from building the nets to the last epoch.

    With `is_cached` an untimed pass over the images leaves the features in the cache before.
    """
    params = load_params(["base", "transfer"])
    settings = params.transfer.model_copy(update={"epochs": epochs})
    hardware = configure_hardware(Setup.of(params.base, split_batch=True))
    train_split, val = LabelledImages(*draw_images(num_samples)), LabelledImages(*draw_images(num_val))
    dataset = Dataset("generated", [str(label) for label in range(NUM_CLASSES)], IMAGE_SHAPE, "")

    STATE_FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=STATE_FOLDER, prefix="benchmark-") as folder:

        def prepare() -> Job:
            keras.utils.set_random_seed(0)
            return prepare_transfer(settings, None, dataset, train_split, val, Path(folder), hardware)(0)

        if is_cached:
            prepare()
        began_s = time.perf_counter()
        fit(prepare(), settings, 0, "transfer", lambda _: None, hardware)
        return {"total_time_s": time.perf_counter() - began_s}
