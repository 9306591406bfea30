"""Optimizers, schedules, losses and class weights, compared with their formulas."""

import keras
import numpy as np
import pytest
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight

from cotejo.training.optimizers import build_loss, build_optimizer, build_plateau, build_schedule, weigh_classes
from declared import declare

STEPS_PER_EPOCH = 7
EPOCHS = 10
LEARNING_RATE = 0.02


def declare_training(optimizer=None, schedule=None, **changes):
    """A section with the given keys, of a known length and learning rate."""
    given = {"optimizer": optimizer or {}, "schedule": schedule or {}, **changes}
    return declare("lenet", **{"epochs": EPOCHS, "learning_rate": LEARNING_RATE, **given})


def read_rates(schedule):
    """Returns the learning rate of each step of a training, and the one after its last."""
    built = build_schedule(declare_training(schedule=schedule), STEPS_PER_EPOCH)
    return np.array([float(built(step)) for step in range(EPOCHS * STEPS_PER_EPOCH + 1)])


def move(optimizer, weights, gradients):
    """Returns weights after a step for each list of gradients."""
    variables = [keras.Variable(weight) for weight in weights]
    built = build_optimizer(declare_training(optimizer), STEPS_PER_EPOCH)
    for gradient in gradients:
        built.apply_gradients([(keras.ops.convert_to_tensor(g), v) for g, v in zip(gradient, variables, strict=True)])
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


@pytest.fixture
def weights():
    return [np.array([1.0, -2.0], dtype=np.float32), np.array([[0.5]], dtype=np.float32)]


@pytest.fixture
def gradients():
    """Three steps' gradients of the two weights."""
    rng = np.random.default_rng(0)
    return [[rng.normal(size=2).astype(np.float32), rng.normal(size=(1, 1)).astype(np.float32)] for _ in range(3)]


@pytest.mark.parametrize("name", ["constant", "plateau"])
def test_a_rate_that_no_step_changes_is_a_number(name):
    assert build_schedule(declare_training(schedule={"name": name}), STEPS_PER_EPOCH) == LEARNING_RATE


def test_exponential_multiplies_by_the_factor_after_each_epoch():
    rates = read_rates({"name": "exponential", "factor": 0.8})
    epochs = np.arange(EPOCHS * STEPS_PER_EPOCH + 1) // STEPS_PER_EPOCH
    np.testing.assert_allclose(rates, LEARNING_RATE * 0.8**epochs, rtol=1e-5)


def test_step_multiplies_by_the_factor_after_each_interval():
    rates = read_rates({"name": "step", "factor": 0.1, "interval_epochs": 4})
    intervals = np.arange(EPOCHS * STEPS_PER_EPOCH + 1) // (4 * STEPS_PER_EPOCH)
    assert set(intervals) == {0, 1, 2}
    np.testing.assert_allclose(rates, LEARNING_RATE * 0.1**intervals, rtol=1e-5)


@pytest.mark.parametrize("final_fraction", [0.0, 0.1])
def test_cosine_falls_along_half_a_period(final_fraction):
    rates = read_rates({"name": "cosine", "final_fraction": final_fraction})
    done = np.arange(EPOCHS * STEPS_PER_EPOCH + 1) / (EPOCHS * STEPS_PER_EPOCH)
    expected = LEARNING_RATE * (final_fraction + (1 - final_fraction) * (1 + np.cos(np.pi * done)) / 2)
    np.testing.assert_allclose(rates, expected, rtol=1e-4, atol=1e-9)
    assert rates[-1] == pytest.approx(LEARNING_RATE * final_fraction, abs=1e-9)


def test_cosine_warms_up_from_nothing_and_ends_with_the_last_epoch():
    rates = read_rates({"name": "cosine", "warmup_epochs": 2, "final_fraction": 0.1})
    warmup = 2 * STEPS_PER_EPOCH
    np.testing.assert_allclose(rates[:warmup], LEARNING_RATE * np.arange(warmup) / warmup, rtol=1e-5)
    done = np.arange(8 * STEPS_PER_EPOCH + 1) / (8 * STEPS_PER_EPOCH)
    expected = LEARNING_RATE * (0.1 + 0.9 * (1 + np.cos(np.pi * done)) / 2)
    np.testing.assert_allclose(rates[warmup:], expected, rtol=1e-4)


def test_the_optimizer_counts_its_steps_for_the_schedule(weights, gradients):
    schedule = {"name": "exponential", "factor": 0.5}
    built = build_optimizer(declare_training({"name": "sgd"}, schedule), steps_per_epoch=2)
    variable = keras.Variable(weights[0])
    for gradient, _ in gradients:
        built.apply_gradients([(keras.ops.convert_to_tensor(gradient), variable)])
    first, second, third = (gradient for gradient, _ in gradients)
    expected = weights[0] - LEARNING_RATE * (first + second + 0.5 * third)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(variable), expected, rtol=1e-5)


def test_only_a_plateau_needs_a_callback():
    assert build_plateau(declare_training(schedule={"name": "step"})) is None


def test_a_plateau_lowers_the_rate_after_so_many_epochs_without_a_lower_loss():
    callback = build_plateau(declare_training(schedule={"name": "plateau", "factor": 0.5, "interval_epochs": 2}))
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(build_optimizer(declare_training({"name": "sgd"}, {"name": "plateau"}), STEPS_PER_EPOCH), "mse")
    callback.set_model(model)
    callback.on_train_begin()
    rates = []
    # the smallest improvement counts, the same loss doesn't
    for epoch, val_loss in enumerate([1.0, 1.0, 0.9999, 0.9999, 1.1, 0.9, 2.0, 3.0]):
        callback.on_epoch_end(epoch, {"val_loss": val_loss})
        rates.append(float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)) / LEARNING_RATE)
    np.testing.assert_allclose(rates, [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25])


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "rmsprop", "nadam"])
def test_each_name_is_the_optimizer_that_keras_calls_so(name):
    built = build_optimizer(declare_training({"name": name}), STEPS_PER_EPOCH)
    assert type(built).__name__.lower() == name
    assert float(keras.ops.convert_to_numpy(built.learning_rate)) == pytest.approx(LEARNING_RATE)
    assert built.global_clipnorm is None
    assert not built.weight_decay  # not even AdamW's own


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_moves_by_momentum(weights, gradients, nesterov):
    moved = move({"name": "sgd", "momentum": 0.9, "nesterov": nesterov}, weights, gradients)
    expected = []
    for number, weight in enumerate(weights):
        velocity, place = 0.0, weight.astype(np.float64)
        for step in gradients:
            change = -LEARNING_RATE * step[number]
            velocity = 0.9 * velocity + change
            place = place + (0.9 * velocity + change if nesterov else velocity)
        expected.append(place)
    for left, right in zip(moved, expected, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5)


def test_rmsprop_takes_the_momentum(weights, gradients):
    still, moved = (move({"name": "rmsprop", "momentum": momentum}, weights, gradients) for momentum in (0.0, 0.9))
    assert not np.allclose(still[0], moved[0])


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "rmsprop", "nadam"])
def test_weight_decay_takes_a_share_of_each_weight_off_whatever_its_gradient(weights, name):
    nothing = [[np.zeros_like(weight) for weight in weights]]
    moved = move({"name": name, "weight_decay": 0.5}, weights, nothing)
    for before, after in zip(weights, moved, strict=True):
        np.testing.assert_allclose(after, before * (1 - LEARNING_RATE * 0.5), rtol=1e-6)
    assert all(np.array_equal(*pair) for pair in zip(weights, move({"name": name}, weights, nothing), strict=True))


def test_a_gradient_that_is_too_long_is_cut_to_the_norm_of_all_weights_together(weights):
    gradient = [np.array([3.0, 0.0], dtype=np.float32), np.array([[4.0]], dtype=np.float32)]  # of length 5
    moved = move({"name": "sgd", "clip_norm": 1.0}, weights, [gradient])
    for before, after, part in zip(weights, moved, gradient, strict=True):
        np.testing.assert_allclose(after, before - LEARNING_RATE * part / 5, rtol=1e-5)


def test_a_short_gradient_is_not_cut(weights, gradients):
    cut, plain = (move({"name": "sgd", "clip_norm": norm}, weights, gradients) for norm in (100.0, 0.0))
    for left, right in zip(cut, plain, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-6)


@pytest.fixture
def predicted():
    """Labels of shape (batch,) and probabilities of shape (batch, num_classes)."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 4, size=50), rng.dirichlet(np.ones(4), size=50).astype(np.float32)


def test_the_loss_without_smoothing_is_the_log_loss(predicted):
    y_true, y_prob = predicted
    loss = build_loss(declare_training(), num_classes=4)(y_true, y_prob)
    assert float(loss) == pytest.approx(log_loss(y_true, y_prob, labels=range(4)), rel=1e-5)


def test_label_smoothing_spreads_its_share_over_all_classes(predicted):
    y_true, y_prob = predicted
    loss = build_loss(declare_training(label_smoothing=0.1), num_classes=4)(y_true, y_prob)
    spread = 0.9 * np.eye(4)[y_true] + 0.1 / 4
    assert float(loss) == pytest.approx(-np.mean(np.sum(spread * np.log(y_prob), axis=1)), rel=1e-5)


def test_a_smoothed_loss_weighs_samples_as_any_other(predicted):
    y_true, y_prob = predicted
    weight = np.linspace(0, 2, len(y_true))
    loss = build_loss(declare_training(label_smoothing=0.1), num_classes=4)(y_true, y_prob, sample_weight=weight)
    spread = 0.9 * np.eye(4)[y_true] + 0.1 / 4
    each = -np.sum(spread * np.log(y_prob), axis=1)
    assert float(loss) == pytest.approx(np.mean(weight * each), rel=1e-5)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_a_model_is_trained_with_either_loss(digits, label_smoothing):
    images, labels = digits[0]
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")]
    )
    settings = declare_training(label_smoothing=label_smoothing)
    model.compile(
        build_optimizer(settings, STEPS_PER_EPOCH), build_loss(settings, 10), metrics=["accuracy"], jit_compile=False
    )
    weights = weigh_classes(labels, 10)
    history = model.fit(images / 255, labels, class_weight=weights, epochs=3, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert history["accuracy"][-1] > 0.5  # the labels are still classes


def test_classes_are_weighed_as_scikit_learn_balances_them():
    labels = np.repeat([0, 1, 2], [70, 20, 10])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert list(weigh_classes(labels, 3).values()) == pytest.approx(list(expected))


def test_a_class_without_images_has_no_weight_and_takes_none_from_the_others():
    labels = np.repeat([0, 2], [30, 10])
    present = compute_class_weight("balanced", classes=np.array([0, 2]), y=labels)
    assert weigh_classes(labels, 4) == pytest.approx({0: present[0], 1: 0.0, 2: present[1], 3: 0.0})


def test_equal_classes_weigh_one_each():
    assert weigh_classes(np.arange(30) % 3, 3) == {0: 1.0, 1: 1.0, 2: 1.0}
