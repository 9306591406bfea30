"""Batch normalisation against Keras's own, activations against their formulas, and what is asked of a model."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cotejo.errors import ModelError
from cotejo.models.layers import (
    BatchNormalization,
    activate,
    check_trainable,
    hold_in_inference_mode,
    uses_batch_statistics,
)
from warm import WarmProcess

WEIGHTS = [[0.5, 2.0, -1.0], [0.1, -0.2, 3.0], [0.0, 5.0, -1.0], [1.0, 0.3, 4.0]]  # gamma, beta, moving mean, variance


def draw_batch(*shape, seed=0):
    """Channels far from 0 and of different spread, where cancellation would show."""
    normal = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return normal * np.array([1.0, 10.0, 0.1], np.float32) + np.array([0.0, 50.0, -3.0], np.float32)


def build_pair(shape=(None, 5, 6, 3), **settings):
    """Ours and Keras's, with the same weights."""
    return build_both(shape, settings, settings)


def build_both(shape, our_settings, their_settings):
    pair = BatchNormalization(**our_settings), keras.layers.BatchNormalization(**their_settings)
    for layer in pair:
        layer.build(shape)
        layer.set_weights([np.array(weight, np.float32) for weight in WEIGHTS])
    return pair


def step(layer, x):
    """Normalises a batch in training; returns the output, and the gradients of a loss by x, gamma and beta."""

    @tf.function(jit_compile=False)
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
            loss = tf.reduce_sum(tf.sin(tf.cast(y, tf.float64)) * [1.0, 2.0, 3.0])
        return y, *tape.gradient(loss, [x, layer.gamma.value, layer.beta.value])

    return [np.asarray(tf.cast(result, tf.float64)) for result in run(tf.cast(x, layer.compute_dtype))]


def count_fused(layer, x, training=True):
    graph = tf.function(lambda x: layer(x, training=training)).get_concrete_function(tf.convert_to_tensor(x)).graph
    return sum(operation.type == "FusedBatchNormV3" for operation in graph.get_operations())


def test_it_has_kerass_weights_and_is_fused_where_an_image_is_trained_on():
    ours, theirs = build_pair()
    assert [weight.name for weight in ours.weights] == [weight.name for weight in theirs.weights]
    assert len(ours.trainable_weights) == 2
    x = draw_batch(4, 5, 6, 3)
    assert count_fused(ours, x) == 1
    assert count_fused(theirs, x) == 0, "Keras itself has learned to; ours isn't needed any more"
    assert count_fused(ours, x, training=False) == 0
    ours.trainable = False
    assert count_fused(ours, x) == 0


@pytest.mark.parametrize("shape", [(8, 5, 6, 3), (3, 5, 6, 3), (1, 1, 2, 3), (1, 1, 1, 3)], ids=str)
def test_outputs_gradients_and_moving_statistics_are_kerass_after_several_batches(shape):
    # Keras's in float64: in float32 its own rounding is as large as ours
    ours, theirs = build_both((None, 5, 6, 3), {}, {"dtype": "float64"})
    for number in range(4):
        x = draw_batch(*shape, seed=number)
        for our_result, exact in zip(step(ours, x), step(theirs, x), strict=True):
            np.testing.assert_allclose(our_result, exact, rtol=1e-4, atol=5e-5 * max(1, np.abs(exact).max()))
        np.testing.assert_allclose(ours.moving_mean, theirs.moving_mean, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(ours.moving_variance, theirs.moving_variance, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(ours(x, training=False), ours.__class__.__base__.call(ours, x, training=False))


def test_the_moving_variance_is_that_of_the_batch_itself_not_an_estimate_of_a_population():
    ours, _ = build_pair(momentum=0.0)
    x = draw_batch(2, 1, 1, 3)
    ours(x, training=True)
    np.testing.assert_allclose(ours.moving_variance, x.var(axis=(0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(ours.moving_mean, x.mean(axis=(0, 1, 2)), rtol=1e-5)


def test_in_bfloat16_outputs_and_gradients_are_near_kerass_and_statistics_stay_float32():
    ours, theirs = build_pair(dtype="mixed_bfloat16")
    for number in range(3):
        x = draw_batch(8, 5, 6, 3, seed=number)
        assert ours(tf.cast(x, tf.bfloat16), training=True).dtype == tf.bfloat16
        theirs(tf.cast(x, tf.bfloat16), training=True)
        for our_result, their_result in zip(step(ours, x), step(theirs, x), strict=True):
            np.testing.assert_allclose(our_result, their_result, rtol=0.05, atol=0.03 * np.abs(their_result).max())
    assert {weight.dtype for weight in ours.weights} == {"float32"}
    np.testing.assert_allclose(ours.moving_mean, theirs.moving_mean, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ours.moving_variance, theirs.moving_variance, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "settings"),
    [((6, 3), {}), ((6, 5, 3), {}), ((4, 3, 5, 3), {"axis": 1}), ((4, 5, 5, 3), {"dtype": "float64"})],
    ids=["features", "sequence", "channels first", "float64"],
)
def test_what_the_fused_operation_does_not_take_is_kerass_own(shape, settings):
    ours, theirs = build_pair(shape, **settings)
    x = draw_batch(*shape)
    assert count_fused(ours, tf.cast(x, ours.compute_dtype)) == 0
    np.testing.assert_array_equal(ours(x, training=True), theirs(x, training=True))
    np.testing.assert_array_equal(ours.moving_variance, theirs.moving_variance)


def test_masked_places_do_not_count():
    ours, theirs = build_pair()
    x, mask = draw_batch(4, 5, 6, 3), np.arange(4 * 5 * 6).reshape(4, 5, 6) % 3 > 0
    np.testing.assert_array_equal(ours(x, training=True, mask=mask), theirs(x, training=True, mask=mask))


DETERMINISTIC = """
import keras
import numpy as np
import tensorflow as tf
from cotejo.models.layers import BatchNormalization

def train():
    keras.utils.set_random_seed(0)
    stack = [keras.Input((6, 6, 1)), keras.layers.Conv2D(8, 3), BatchNormalization(), keras.layers.Flatten()]
    model = keras.Sequential([*stack, keras.layers.Dense(3, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    images = np.random.default_rng(0).normal(size=(40, 6, 6, 1)).astype(np.float32)
    model.fit(images, np.arange(40) % 3, batch_size=16, epochs=3, verbose=0)
    return model.get_weights()

tf.config.experimental.enable_op_determinism()
print(all(np.array_equal(first, second) for first, second in zip(train(), train(), strict=True)))
"""


def test_two_trainings_have_the_same_bits_under_op_determinism(environment, tmp_path):
    (tmp_path / "train.py").write_text(DETERMINISTIC)
    process = WarmProcess([str(tmp_path / "train.py")], tmp_path, environment)
    stdout, stderr = process.communicate(300)
    assert (process.returncode, stdout.strip()) == (0, "True"), stderr


X = np.array([-2.0, -0.5, 0.0, 0.5, 2.0], np.float32)
SIGMOID = 1 / (1 + np.exp(-X))
FORMULAS = {
    "relu": np.maximum(X, 0),
    "leaky_relu": np.where(X > 0, X, 0.01 * X),
    "prelu": np.where(X > 0, X, 0.25 * X),
    "elu": np.where(X > 0, X, np.expm1(X)),
    "tanh": np.tanh(X),
    "sigmoid": SIGMOID,
    "swish": X * SIGMOID,
    "step": np.array([0, 0, 0, 1, 1], np.float32),
}


def build_activation(name, shape, **settings):
    x = keras.Input(shape, **settings)
    return keras.Model(x, activate(x, name, "named"), name="net")


@pytest.mark.parametrize("name", FORMULAS)
def test_an_activation_follows_its_formula_on_features_and_on_images(name):
    features = build_activation(name, (5,))
    np.testing.assert_allclose(features(X[np.newaxis])[0], FORMULAS[name], rtol=1e-5, atol=1e-6)
    images = build_activation(name, (5, 1, 2))
    assert images.get_layer("named") is not None
    pair = np.stack([X, X], axis=-1)[np.newaxis, :, np.newaxis]
    np.testing.assert_allclose(images(pair)[0, :, 0, 1], FORMULAS[name], rtol=1e-5, atol=1e-6)
    assert images.count_params() == (2 if name == "prelu" else 0), "a slope a channel, wherever in the image"


@pytest.mark.parametrize("name", FORMULAS)
def test_an_activation_is_saved_without_code(name, tmp_path):
    model = build_activation(name, (5,))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(loaded(X[np.newaxis]), model(X[np.newaxis]))


def test_a_step_has_no_gradient_and_is_not_trained():
    model = build_activation("step", (5,))
    x = tf.constant(X[np.newaxis])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = model(x)
    np.testing.assert_array_equal(tape.gradient(y, x), np.zeros((1, 5)))
    with pytest.raises(ModelError, match=r"^net: expected activations with a gradient\. Received: .*step.*relu\.$"):
        check_trainable(model)


def test_a_step_is_found_in_a_model_inside_a_model_and_in_a_loaded_one(tmp_path):
    x = keras.Input((5,))
    outer = keras.Sequential([keras.Input((5,)), keras.Model(x, build_activation("step", (5,))(x))])
    outer.save(tmp_path / "model.keras")
    for model in (outer, keras.saving.load_model(tmp_path / "model.keras")):
        with pytest.raises(ModelError, match="step"):
            check_trainable(model)


@pytest.mark.parametrize("name", [name for name in FORMULAS if name != "step"])
def test_other_activations_are_trained(name):
    check_trainable(build_activation(name, (5,)))


@pytest.mark.parametrize("kind", [BatchNormalization, keras.layers.BatchNormalization])
def test_batch_statistics_are_used_by_normalisation_that_is_trained_wherever_it_is_nested(kind):
    normalise = kind()
    inner = keras.Sequential([keras.Input((4, 4, 3)), normalise])
    x = keras.Input((4, 4, 3))
    model = keras.Model(x, inner(x))
    assert uses_batch_statistics(model)
    normalise.trainable = False
    assert not uses_batch_statistics(model)
    normalise.trainable = True
    hold_in_inference_mode(normalise)
    assert not uses_batch_statistics(model)
    assert not uses_batch_statistics(build_activation("relu", (5,)))
