"""A saved model that is ready for pictures. Imports TensorFlow, which takes seconds."""

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from cotejo.data.decoding import show_path
from cotejo.errors import ModelError
from cotejo.evaluation.predict import predict_probabilities
from cotejo.execution.messages import Setup
from cotejo.serving.archives import Archive
from cotejo.serving.facts import Facts
from cotejo.serving.pictures import Fault, Picture
from cotejo.serving.rendering import Prediction
from cotejo.training.archive import load_model
from cotejo.training.hardware import configure_hardware


class Classifier(NamedTuple):
    """A model that is ready for pictures."""

    archive: Archive
    facts: Facts
    model: keras.Model

    def classify(self, batch: Sequence[Picture], top: int) -> Iterator[Prediction | Fault]:
        """Yields the prediction for each picture, or why there is none, in their order."""
        ready = [picture.pixels for picture in batch if picture.pixels is not None]
        rows = iter(_compute_probabilities(self, np.stack(ready)) if ready else ())
        for picture in batch:
            if picture.pixels is None:
                yield Fault(show_path(picture.path), picture.error)
            else:
                y_prob: NDArray[np.float32] = next(rows)
                # of equal probabilities the first class, as argmax has it
                best = np.argsort(-y_prob, kind="stable")[:top]
                yield Prediction(
                    picture.path, [(self.facts.class_names[index], float(y_prob[index])) for index in best]
                )


def load_classifier(archive: Archive, facts: Facts) -> Classifier:
    """Loads a model; raises `ModelError` where it isn't one, or isn't of what is known of it."""
    configure_hardware(Setup(os.cpu_count() or 1, "float32"))
    model = load_model(archive.path)
    check_model(archive, facts, model)
    return Classifier(archive, facts, model)


def check_model(archive: Archive, facts: Facts, model: keras.Model) -> None:
    """Checks a loaded model against its recorded facts.

    Raises:
        ModelError: It takes images of another shape, or tells other classes apart.
    """
    taken, given = tuple(model.input_shape[1:]), model.output_shape[-1]
    fits = all(side in (None, expected) for side, expected in zip(taken, facts.image_shape, strict=False))
    if len(taken) != 3 or not fits or given != len(facts.class_names):
        raise ModelError(
            where=archive.name,
            expected=(
                f"a model of images of shape {facts.image_shape} and {len(facts.class_names)} classes, as what is "
                "known of it says"
            ),
            received=f"images of shape {taken} and {given} classes",
            advice="Train it again, or run in the folder of the study that trained it",
        )


def _compute_probabilities(classifier: Classifier, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    y_prob = predict_probabilities(classifier.model, images, len(images))
    if not np.isfinite(y_prob).all():
        raise ModelError(
            where=classifier.archive.name,
            expected="probabilities",
            received=y_prob[~np.isfinite(y_prob)][0],
            advice="Train the model again",
        )
    return y_prob
