"""Small building blocks that every model may use, and what a training asks of a model's layers."""

from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from cotejo.errors import ModelError

#: Pixels per side up to which a smaller image is padded, like the study's 28x28 for LeNet's 32x32.
MAX_PADDING = 4
#: Dtypes of the images that TensorFlow's fused batch normalisation takes.
FUSIBLE = (tf.float32, tf.bfloat16, tf.float16)


class BatchNormalization(layers.BatchNormalization):
    """Keras's batch normalisation, trained through TensorFlow's fused operation where that applies.

    Same variables, same results up to rounding: Keras takes mean, variance and output in separate passes over the
    images, the fused operation in one kernel, and its gradient in another. It applies to images of shape (batch,
    height, width, channels) with the default scale and offset; anything else, and inference, is Keras's own code.

    The class bears the name of Keras's, since archives name weights by it, and `save_model` saves it as Keras's.

    References:
        Ioffe and Szegedy (2015), Batch normalization, arXiv:1502.03167, algorithm 1.
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None) -> tf.Tensor:
        """Normalises by the batch in training, by the moving statistics otherwise; same shape and dtype."""
        if not (training and self.trainable and mask is None and self._is_fusible(inputs)):
            return super().call(inputs, training=training, mask=mask)
        fused = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.convert_to_tensor(self.gamma),
            offset=tf.convert_to_tensor(self.beta),
            mean=[],
            variance=[],
            epsilon=self.epsilon,
            is_training=True,
        )
        # the operation gives the unbiased variance, n / (n - 1) times the one that Keras keeps; of one value, nothing
        count = tf.cast(tf.size(inputs) // inputs.shape[-1], tf.float32)
        share = 1 - self.momentum
        self._move(self.moving_mean, fused.batch_mean * share)
        self._move(self.moving_variance, tf.math.multiply_no_nan(fused.batch_variance, share * (1 - 1 / count)))
        return fused.y

    def _move(self, average: keras.Variable, change: tf.Tensor) -> None:
        average.assign(tf.convert_to_tensor(average) * self.momentum + change)

    def _is_fusible(self, inputs: tf.Tensor) -> bool:
        is_default = self.scale and self.center and not self.renorm and not self.synchronized
        is_image = len(inputs.shape) == 4 and self.axis in (-1, 3)
        return is_default and is_image and inputs.dtype in FUSIBLE and self.variable_dtype == "float32"


def activate(x: keras.KerasTensor, name: str, layer_name: str | None = None) -> keras.KerasTensor:
    """Applies an activation function.

    Args:
        x: Shape (batch, height, width, channels) or (batch, num_features).
        name: relu, elu, tanh, sigmoid or swish as in Keras; leaky_relu with slope 0.01 below zero; prelu with one
            slope a channel, learned from 0.25; step, which is 1 above zero and 0 elsewhere, and can't be trained.
        layer_name: Name of the layer; None has Keras number it.

    Returns:
        Tensor of the same shape and dtype.

    References:
        leaky_relu: Maas, Hannun and Ng (2013), Rectifier nonlinearities improve neural network acoustic models,
        section 2. prelu: He, Zhang, Ren and Sun (2015), Delving deep into rectifiers, arXiv:1502.01852, section 2.1.
        elu: Clevert, Unterthiner and Hochreiter (2016), arXiv:1511.07289. swish: Ramachandran, Zoph and Le (2017),
        arXiv:1710.05941.
    """
    if name == "leaky_relu":
        return layers.LeakyReLU(negative_slope=0.01, name=layer_name)(x)
    if name == "prelu":
        places = list(range(1, len(x.shape) - 1))  # height and width, if there are any
        return layers.PReLU(keras.initializers.Constant(0.25), shared_axes=places, name=layer_name)(x)
    if name == "step":
        # two of Keras's own operations, since an archive with a Lambda isn't loaded in safe mode
        return keras.ops.sign(layers.ReLU(name=layer_name)(x))
    return layers.Activation(name, name=layer_name)(x)


def check_trainable(model: keras.Model) -> None:
    """Refuses to train a model with a step activation.

    Raises:
        ModelError: The model has one.
    """
    for operation in _walk(model):
        if type(operation).__name__ == "Sign":
            raise ModelError(
                where=model.name,
                expected="activations with a gradient",
                received=(
                    f"activation step ({operation.name}), whose gradient is zero everywhere, so that nothing below it "
                    "would learn"
                ),
                advice="Choose another activation in params.yaml, such as relu",
            )


def uses_batch_statistics(model: keras.Model) -> bool:
    """Returns whether a layer, nested ones too, normalises by the statistics of the batch when the model is trained.

    Batch normalisation that is frozen or held in inference mode doesn't.
    """
    return any(
        isinstance(layer, layers.BatchNormalization) and layer.trainable and not _is_held(layer)
        for layer in _walk(model)
    )


def find_precision(model: keras.Model) -> str:
    """Returns the precision in which a model computes: that of its layers, of which the last is float32 in any case."""
    policies = {operation.dtype_policy.name for operation in _walk(model) if isinstance(operation, layers.Layer)}
    return "mixed_bfloat16" if "mixed_bfloat16" in policies else "float32"


def hold_in_inference_mode(layer: layers.Layer) -> None:
    """Lets a layer use its moving statistics for as long as this object lives; what is saved doesn't change.

    Calling a model with training=False isn't enough, since `fit` overrides it
    (https://github.com/keras-team/keras/issues/20285), and an untrainable layer wouldn't train its scale and offset.
    """
    call = layer.call
    layer.call = lambda inputs, training=None, mask=None: call(inputs, training=False, mask=mask)
    layer.is_held_in_inference_mode = True


def _is_held(layer: layers.Layer) -> bool:
    return getattr(layer, "is_held_in_inference_mode", False)


def _walk(model: keras.Model) -> Iterator[Any]:
    """Yields the layers and plain operations of a model, and those of the models inside it."""
    for operation in getattr(model, "operations", model.layers):
        yield operation
        if isinstance(operation, keras.Model):
            yield from _walk(operation)


def fit_image(images: keras.KerasTensor, size: int) -> keras.KerasTensor:
    """Brings images to a square size inside the model: zero padding where a few pixels lack, else resizing.

    Args:
        images: Shape (batch, height, width, channels).
        size: Height and width to reach, in pixels.

    Returns:
        Tensor of shape (batch, size, size, channels).
    """
    height, width = images.shape[1:3]
    if (height, width) == (size, size):
        return images
    lacking = (size - height, size - width)
    if height == width and 0 < lacking[0] <= 2 * MAX_PADDING and lacking[0] % 2 == 0:
        return layers.ZeroPadding2D(lacking[0] // 2, name="pad")(images)
    return layers.Resizing(size, size, interpolation="bilinear", name="resize")(images)


def scale_to_unit(images: keras.KerasTensor) -> keras.KerasTensor:
    """Scales pixels from 0..255 to 0..1."""
    return layers.Rescaling(1 / 255, name="scale")(images)


def classify(
    features: keras.KerasTensor, num_classes: int, regularizer: keras.regularizers.Regularizer | None = None
) -> keras.KerasTensor:
    """Adds the dense softmax layer; its output is float32 whatever the precision of the rest.

    Args:
        features: Shape (batch, num_features).
        num_classes: Number of outputs.
        regularizer: Penalty on its weights.

    Returns:
        Probabilities of shape (batch, num_classes); rows sum to 1.
    """
    return layers.Dense(
        num_classes, activation="softmax", kernel_regularizer=regularizer, dtype="float32", name="classify"
    )(features)
