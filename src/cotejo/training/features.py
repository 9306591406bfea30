"""Features of a frozen backbone, computed once instead of in every epoch."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import keras
import numpy as np

from cotejo.data.readers import LabelledImages
from cotejo.data.splits import Dataset
from cotejo.models.backbones import build_backbone, build_extractor, build_head, join
from cotejo.params import Transfer
from cotejo.training.fit import Job

FEATURE_BATCH_SIZE = 256


def compute_features(extractor: keras.Model, split: LabelledImages) -> LabelledImages:
    """Runs images through a frozen extractor.

    Args:
        extractor: From uint8 images to features of shape (batch, num_features).
        split: Images and labels.

    Returns:
        Features in place of the images, float32 of shape (num_samples, num_features), with the same labels.
    """
    num_samples = len(split.labels)
    features = np.empty((num_samples, extractor.output_shape[-1]), np.float32)
    for start in range(0, num_samples, FEATURE_BATCH_SIZE):
        batch = slice(start, start + FEATURE_BATCH_SIZE)
        features[batch] = extractor.predict_on_batch(split.images[batch])
    return LabelledImages(features, split.labels)


def prepare_transfer(
    settings: Transfer, weights: Path | None, dataset: Dataset, train: LabelledImages, val: LabelledImages
) -> Callable[[int], Job]:
    """Returns a function that builds a frozen backbone with a new head, and the features to fit the head on.

    Args:
        settings: The `transfer` section.
        weights: The backbone's weights, or None for random ones, which differ by seed.
        dataset: Shape and classes of the images.
        train: Training images.
        val: Validation images.

    Raises:
        ModelError: The file doesn't hold the weights of this backbone.
    """

    @lru_cache(maxsize=1)
    def extract(_: int | None) -> tuple[keras.Model, LabelledImages, LabelledImages]:
        extractor = build_extractor(build_backbone(settings, weights), dataset.image_shape)
        return extractor, compute_features(extractor, train), compute_features(extractor, val)

    if weights is not None:
        extract(None)  # here, where it can't draw from the generators of the first seed only

    def prepare(seed: int) -> Job:
        extractor, train_features, val_features = extract(None if weights is not None else seed)
        head = build_head(extractor.output_shape[-1], dataset.num_classes, settings.dropout_rate)
        return Job(join(extractor, head), head, train_features, val_features)

    return prepare
