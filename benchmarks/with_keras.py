"""Plain Keras's side: `fit` on float arrays, as a notebook does it, with neither threads nor determinism asked for."""

import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from images import IMAGE_SHAPE, NUM_CLASSES, draw_images
from numpy.typing import NDArray
from with_cotejo import build_net, count_trainable

from cotejo.models.backbones import build_backbone, build_head
from cotejo.params import load_params
from cotejo.training.archive import save_model


class Clock(keras.callbacks.Callback):
    """Takes the time of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.times_s: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        """Starts."""
        self.began_s = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        """Stops."""
        self.times_s.append(time.perf_counter() - self.began_s)


def train(net: str, num_samples: int, epochs: int) -> dict[str, Any]:
    """Trains a net from scratch."""
    settings = getattr(load_params([net]), net)
    model = build_stock_net(build_net(settings))
    compile_plainly(model, settings.learning_rate)
    images, labels = draw_images(num_samples)
    clock = Clock()
    model.fit(images.astype("float32") / 255, labels, settings.batch_size, epochs=epochs, verbose=0, callbacks=[clock])
    return {"train_times_s": clock.times_s, "trainable_parameters": count_trainable(model)}


def transfer(num_samples: int, num_val: int, epochs: int) -> dict[str, Any]:
    """Fits a head through the frozen backbone, from building the nets to the last epoch; images are enlarged before."""
    settings = load_params(["transfer"]).transfer
    size = settings.input_size
    (images, labels), (val_images, val_labels) = draw_images(num_samples), draw_images(num_val)
    images, val_images = enlarge(images, size), enlarge(val_images, size)

    began_s = time.perf_counter()
    inputs = keras.Input((size, size, 1))
    colours = keras.layers.Concatenate()([inputs] * 3)
    features = keras.layers.GlobalAveragePooling2D()(build_backbone(settings, None)(colours))
    head = build_head(features.shape[-1], NUM_CLASSES, settings)
    model = keras.Model(inputs, head(features))
    compile_plainly(model, settings.learning_rate)
    model.fit(images, labels, settings.batch_size, epochs=epochs, verbose=0, validation_data=(val_images, val_labels))
    return {"total_time_s": time.perf_counter() - began_s}


def build_stock_net(model: keras.Model) -> keras.Model:
    """Returns Cotejo's net in Keras's own layers, from floats of 0 to 1: what follows the scaling layer."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.keras"
        save_model(model, path)  # which names Keras's batch normalisation in place of Cotejo's
        stock = keras.saving.load_model(path)
    return keras.models.clone_model(
        stock,
        input_tensors=keras.Input(IMAGE_SHAPE),
        clone_function=lambda layer: keras.layers.Identity() if layer.name == "scale" else rebuild(layer),
    )


def rebuild(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Returns a new layer of the same class.

    Raises:
        TypeError: The class isn't Keras's own.
    """
    if not type(layer).__module__.startswith("keras."):
        raise TypeError(f"expected Keras's own layers only. Received: {type(layer)}")
    return type(layer).from_config(layer.get_config())


def compile_plainly(model: keras.Model, learning_rate: float) -> None:
    """Compiles as a notebook does."""
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate), loss="sparse_categorical_crossentropy", metrics=["accuracy"]
    )


def enlarge(images: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    """Prepares grey images for the backbone: float32 of -1 to 1, shape (num_samples, size, size, 1)."""
    floats = images.astype("float32") / 127.5 - 1
    return keras.ops.convert_to_numpy(keras.ops.image.resize(floats, (size, size)))
