"""The Inception network against a count from GoogLeNet's table, and its block against a plain one."""

import keras
import numpy as np
import pytest

from answers import answer
from cotejo.models.inception import build_model
from declared import declare

#: Table 1 of the paper: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj.
TABLE = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def build(**changes):
    return build_model(declare("resnet", architecture="inception", **changes), (28, 28, 1), 10)


@pytest.fixture(scope="module")
def inception():
    return build(batch_normalization=False)


def count(size, inputs, outputs):
    return size**2 * inputs * outputs + outputs


def test_it_has_as_many_parameters_as_its_kernels_and_biases(inception):
    expected, inputs = count(3, 1, 32), 32
    for row in TABLE.values():
        one, three_reduced, three, five_reduced, five, projected = (width // 4 for width in row)
        expected += count(1, inputs, one + three_reduced + five_reduced + projected)
        expected += count(3, three_reduced, three) + count(5, five_reduced, five)
        inputs = one + three + five + projected
    expected += count(1, inputs, 10)
    assert inception.count_params() == expected == 180_002


def test_blocks_keep_the_size_and_pools_between_them_halve_it(inception):
    sizes = {name: inception.get_layer(name).output.shape[1:] for name in ("stem", *TABLE, "average")}
    assert sizes == {
        "stem": (28, 28, 32), "3a": (14, 14, 64), "3b": (14, 14, 120), "5a": (7, 7, 208), "5b": (7, 7, 256),
        "average": (256,),
    }  # fmt: skip


def test_a_block_looks_through_four_parallel_windows(inception):
    weights = [inception.get_layer(f"3b_{part}").get_weights() for part in ("1x1", "3x3", "5x5", "pool_proj")]
    block_input = inception.get_layer("3b_1x1").input
    reduced = [inception.get_layer(f"3b_{part}_reduce_activation").output for part in ("3x3", "5x5")]
    tensors = [block_input, *reduced, inception.get_layer("3b").output]
    images = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1), np.uint8)
    x, x3, x5, y = keras.Model(inception.input, tensors)(images, training=False)
    pooled = keras.ops.max_pool(x, 3, strides=1, padding="same")
    branches = [
        keras.ops.relu(keras.ops.conv(branch, kernel, padding="same") + bias)
        for branch, (kernel, bias) in zip((x, x3, x5, pooled), weights, strict=True)
    ]
    np.testing.assert_allclose(y, keras.ops.concatenate(branches, axis=-1), atol=1e-6)


def test_raw_bytes_go_in_and_probabilities_come_out(inception):
    y_prob = answer(inception, np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), np.uint8))
    assert (y_prob.shape, y_prob.dtype, inception.input.dtype) == ((3, 10), np.float32, "uint8")
    np.testing.assert_allclose(y_prob.sum(axis=1), 1, rtol=1e-6)


def test_the_smallest_input_is_built():
    assert build(input_size=8).get_layer("5b").output.shape == (None, 2, 2, 256)
