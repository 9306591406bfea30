"""Features of a frozen backbone: computed once instead of in every epoch, kept on the disk."""

import hashlib
import io
import json
import math
import os
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from cotejo import pretrained
from cotejo.data.readers import LabelledImages
from cotejo.data.splits import Dataset, TrainingData
from cotejo.data.stored import store_rows
from cotejo.files import replacing
from cotejo.lineage.tags import list_versions
from cotejo.models import backbones, layers
from cotejo.models.backbones import (
    BACKBONE,
    build_backbone,
    build_extractor,
    build_head,
    check_output,
    join,
    take_backbone,
)
from cotejo.schema.trainings import Transfer
from cotejo.training.archive import load_model
from cotejo.training.fit import Job, Prepare
from cotejo.training.hardware import Hardware
from cotejo.training.split_batch import join_parts, split_batch

#: Images whose features are computed at once.
BATCH_SIZE = 256
#: The least of them, where images are large.
LEAST_BATCH_SIZE = 8
#: Pixels of a batch at most, as many as 256 images of 64x64 have: what a net makes of them has to be in memory.
BATCH_PIXELS = BATCH_SIZE * 64 * 64
#: What a killed process left is removed after so long; a live one writes to its file with every batch.
ABANDONED_AFTER_S = 3600


def prepare_transfer(
    settings: Transfer,
    weights: Path | None,
    dataset: Dataset,
    train: LabelledImages,
    val: LabelledImages,
    cache: Path,
    hardware: Hardware,
) -> Prepare:
    """Returns a function that builds a frozen backbone with a new head, and the features to fit the head on.

    Backbone and head are float32 whatever the precision of other models: the backbone runs once, and over features
    there is nothing to speed up. With augmentation each epoch sees other images, so that there are no features to
    keep: the head is then fitted through the frozen backbone, in the precision that holds when this is called.

    Args:
        settings: The `transfer` section.
        weights: The backbone's weights, or the model that serves as one, or None for random weights, drawn from the
            generators seeded for each job.
        dataset: Shape and classes of the images.
        train: Training images.
        val: Validation images.
        cache: Folder that keeps the features for later runs; made if need be.
        hardware: What the backbone runs on.

    Raises:
        ModelError: The file doesn't hold the weights of this backbone, or no model that can be one; or a sigmoid unit
            is declared for other than two classes.
    """
    check_output(settings, dataset.num_classes)
    augmented = settings.augmentation.is_on
    policy = keras.config.dtype_policy() if augmented else keras.DTypePolicy("float32")

    def extract() -> tuple[keras.Model, LabelledImages, LabelledImages]:
        extractor = build_extractor(_get_backbone(settings, weights), dataset.image_shape, settings)
        if augmented:
            return extractor, train, val
        train_features = load_features(settings, extractor, train.images, "train", cache, hardware)
        val_features = load_features(settings, extractor, val.images, "val", cache, hardware)
        return extractor, LabelledImages(train_features, train.labels), LabelledImages(val_features, val.labels)

    shared = None
    if augmented:
        _say("transfer.augmentation shows other images in every epoch: no features are cached, the backbone runs anew")
    elif weights is not None:
        with _precision(policy):
            shared = extract()  # here, where it can't draw from the generators of the first seed only

    def prepare(_: int) -> Job:
        with _precision(policy):
            extractor, train_inputs, val_inputs = shared or extract()
            head = build_head(extractor.output_shape[-1], dataset.num_classes, settings)
            model = join(extractor, head)
        return Job(model, model if augmented else head, train_inputs, val_inputs)

    return prepare


def prepare_head(
    settings: Transfer, weights: Path | None, cache: Path, data: TrainingData, hardware: Hardware
) -> Prepare:
    """Calls `prepare_transfer` with images that come together."""
    return prepare_transfer(settings, weights, data.dataset, data.train, data.val, cache, hardware)


def _get_backbone(settings: Transfer, weights: Path | None) -> keras.Model:
    if settings.has_own_backbone and weights is not None:
        return take_backbone(load_model(weights), weights)
    return build_backbone(settings, weights)


def load_features(
    settings: Transfer, extractor: keras.Model, images: NDArray[np.uint8], split: str, cache: Path, hardware: Hardware
) -> NDArray[Any]:
    """Returns the features of images: those that an earlier run left in the cache, or computed and left there.

    Says on stderr which of the two it was. A damaged file is computed anew; where nothing can be written, the
    features stay in memory.

    Args:
        settings: What the extractor was built from.
        extractor: From uint8 images to features of shape (batch, num_features).
        images: Shape (num_samples, height, width, channels).
        split: Names the images, in messages and in the cache.
        cache: Folder of the cache.
        hardware: What the extractor runs on.

    Returns:
        float32 array of shape (num_samples, num_features), on the disk if it could be written there.
    """
    path = cache / f"{split}-{compute_key(settings, extractor, images, hardware)[:16]}.npy"
    shape = (len(images), extractor.output_shape[-1])
    subject = f"features of {len(images):,} {split} images"
    try:
        features = _map(path, shape)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        _say(f"{path} can't be used and is computed anew: {error}")
    else:
        _say(f"{subject} come from the cache, {path}")
        return features
    began_s = time.perf_counter()
    try:
        _save(compute_features(extractor, images, hardware.num_parts), shape, path)
        features = _map(path, shape)
    except OSError as error:
        _say(f"expected to write {subject} to {path}. Received: {error}. They stay in memory, for this run only")
        features = np.concatenate(list(compute_features(extractor, images, hardware.num_parts)))
    _say(f"{subject} computed in {time.perf_counter() - began_s:.1f} s")
    return features


def compute_features(
    extractor: keras.Model, images: NDArray[np.uint8], num_parts: int = 1
) -> Iterator[NDArray[np.float32]]:
    """Runs images through an extractor, batch by batch.

    Args:
        extractor: From uint8 images to features of shape (batch, num_features).
        images: Shape (num_samples, height, width, channels).
        num_parts: Parts of a batch, which TensorFlow runs in parallel.

    Yields:
        float32 features of shape (batch, num_features), in the order of the images; the last batch may be smaller.
    """

    def extract(batch: tf.Tensor) -> tf.Tensor:
        return join_parts([extractor(part, training=False) for part in split_batch(batch, num_parts)], batch)

    # not predict_on_batch, which compiles a last batch anew and repeats each batch on every GPU
    run = tf.function(extract, input_signature=[tf.TensorSpec((None, *images.shape[1:]), images.dtype)])
    batch_size = choose_batch_size(extractor)
    for start in range(0, len(images), batch_size):
        yield run(images[start : start + batch_size]).numpy()


def choose_batch_size(extractor: keras.Model) -> int:
    """Returns how many images go through an extractor at once: fewer of large ones, whatever it enlarges them to."""
    shapes = [layer.output.shape for layer in extractor.layers if len(layer.output.shape) == 4]
    num_pixels: int = max(height * width for _, height, width, _ in shapes)
    return max(LEAST_BATCH_SIZE, min(BATCH_SIZE, BATCH_PIXELS // num_pixels))


def compute_key(settings: Transfer, extractor: keras.Model, images: NDArray[np.uint8], hardware: Hardware) -> str:
    """Returns the SHA-256 of all that features depend on, in hexadecimal.

    Weights and images count by their bytes, not by a file's name, a seed or a recorded digest, which may lie.
    """
    named = (settings.backbone, settings.alpha, settings.input_size)
    described = {
        # a model of ours has no name that would say how its layers are put together
        "backbone": extractor.get_layer(BACKBONE).to_json() if settings.has_own_backbone else named,
        "pooling": settings.pooling,
        "images": images.shape,
        "versions": list_versions(),
        # the order of partial sums, and so the last bits
        "hardware": (hardware.device, hardware.threads, hardware.num_parts),
    }
    key = hashlib.sha256(json.dumps(described).encode())
    for file in (__file__, backbones.__file__, layers.__file__, pretrained.__file__):
        key.update(Path(file).read_bytes())
    for weight in extractor.get_weights():
        key.update(weight.tobytes())
    for start in range(0, len(images), BATCH_SIZE):
        key.update(images[start : start + BATCH_SIZE].tobytes())
    return key.hexdigest()


def _map(path: Path, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Maps a file that `_save` wrote; raises ValueError if it isn't what `_save` writes for this shape."""
    header = _build_header(shape)
    expected_bytes = len(header) + math.prod(shape) * np.dtype(np.float32).itemsize
    with path.open("rb") as file:
        found, size_bytes = file.read(len(header)), os.fstat(file.fileno()).st_size
    if (found, size_bytes) != (header, expected_bytes):
        described = f"{size_bytes:,} bytes with {'the right' if found == header else 'another'} header"
        raise ValueError(f"expected float32 of shape {shape} in {expected_bytes:,} bytes. Received: {described}")
    return store_rows(path, np.float32, len(header), shape)


def _save(batches: Iterable[NDArray[np.float32]], shape: tuple[int, int], path: Path) -> None:
    """Writes batches as one `.npy` file, which appears under its own name when it is whole and on the disk.

    Written, not mapped: on a full disk a write raises OSError, but touching a mapped page kills the process.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path.parent)
    own_name = f".part-{uuid.uuid4().hex}-{path.name}"  # another process may be writing the same
    with replacing(path, own_name, is_synced=True) as partial, partial.open("wb") as file:
        file.write(_build_header(shape))
        for batch in batches:
            file.write(batch.tobytes())


def _build_header(shape: tuple[int, int]) -> bytes:
    content = io.BytesIO()
    described = {"descr": np.dtype(np.float32).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(content, described)
    return content.getvalue()


def _remove_abandoned(cache: Path) -> None:
    for partial in cache.glob(".part-*"):
        with suppress(FileNotFoundError):  # another process was faster
            if time.time() - partial.stat().st_mtime > ABANDONED_AFTER_S:
                partial.unlink()


@contextmanager
def _precision(policy: keras.DTypePolicy) -> Iterator[None]:
    """Sets the dtype policy of the layers that are built meanwhile."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _say(message: str) -> None:
    print(f"transfer-learn: {message}", file=sys.stderr, flush=True)
