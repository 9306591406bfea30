"""AlexNet against a count from the paper's widths and the shapes of its figure, scaled."""

import numpy as np
import pytest

from answers import answer
from cotejo.errors import ModelError
from cotejo.models.alexnet import build_model
from cotejo.schema.trainings import MIN_INPUT_SIZES
from declared import declare

#: Kernel size, inputs and outputs of each layer with weights: the paper's widths through four.
KERNELS = [(5, 1, 96 // 4), (5, 96 // 4, 256 // 4), (3, 256 // 4, 384 // 4), (3, 384 // 4, 384 // 4), (3, 96, 256 // 4)]
DENSE = [(2 * 2 * 64, 4096 // 4), (4096 // 4, 4096 // 4), (4096 // 4, 10)]


def build(**changes):
    return build_model(declare("lenet", architecture="alexnet", **{"input_size": 28, **changes}), (28, 28, 1), 10)


@pytest.fixture(scope="module")
def alexnet():
    return build(activation="relu", dropout_rate=0.5)


def test_it_has_as_many_parameters_as_its_kernels_and_biases(alexnet):
    expected = sum(size**2 * inputs * outputs + outputs for size, inputs, outputs in KERNELS)
    expected += sum(inputs * outputs + outputs for inputs, outputs in DENSE)
    assert alexnet.count_params() == expected == 1_555_898


def test_five_convolutions_and_three_dense_layers_with_overlapping_pools_after_the_1st_2nd_and_5th(alexnet):
    names = [name for name in (layer.name for layer in alexnet.layers) if not name.endswith("_activation")][3:]
    assert names == [
        "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "pool5", "flatten", "dense6", "dense7", "dropout",
        "classify",
    ]  # fmt: skip
    sizes = [alexnet.get_layer(name).output.shape[1:] for name in ("conv1", "pool1", "pool2", "conv5", "pool5")]
    assert sizes == [(28, 28, 24), (13, 13, 24), (6, 6, 64), (6, 6, 64), (2, 2, 64)]


def test_raw_bytes_go_in_and_probabilities_come_out(alexnet):
    y_prob = answer(alexnet, np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), np.uint8))
    assert (y_prob.shape, y_prob.dtype, alexnet.input.dtype) == ((3, 10), np.float32, "uint8")
    np.testing.assert_allclose(y_prob.sum(axis=1), 1, rtol=1e-6)


def test_inputs_are_at_least_15_pixels():
    assert build(input_size=MIN_INPUT_SIZES["alexnet"]).get_layer("pool5").output.shape == (None, 1, 1, 64)
    with pytest.raises(ModelError, match=r"alexnet: expected at least 15 pixels\. Received: input_size 14\. Raise"):
        build_model(
            declare("lenet", architecture="alexnet").model_copy(update={"input_size": MIN_INPUT_SIZES["alexnet"] - 1}),
            (28, 28, 1),
            10,
        )
