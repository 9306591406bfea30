"""What a training runs on: told to TensorFlow before all else, and written beside what a clock measured."""

import json
import os
import platform
import random
import shutil
import threading
from functools import partial

import keras
import numpy as np
import pytest

from cotejo.training.fit import Job
from cotejo.training.hardware import building, check_memory, measure_peak_memory
from cotejo.training.seeds import SeedTrainings, save_timings
from declared import declare
from once import make_once
from peak_memory import measure_peak

CONFIGURE = """
import json
import keras
import tensorflow as tf
from cotejo.execution.messages import Setup
from cotejo.training.hardware import configure_hardware

def configure(threads, precision, split_batch):
    hardware = configure_hardware(Setup(threads, precision, split_batch))
    threading = tf.config.threading
    told = [threading.get_intra_op_parallelism_threads(), threading.get_inter_op_parallelism_threads()]
    return [*hardware[:4], hardware.strategy.num_replicas_in_sync, *told]

told = {"whole": configure(3, "float32", False), "divided": configure(2, "mixed_bfloat16", True)}
layer = keras.layers.Dense(1)
layer.build((None, 1))
told["dtypes"] = [layer.compute_dtype, layer.variable_dtype]
try:
    tf.random.uniform(())  # no seed was set: what it gives would differ from run to run
except RuntimeError:
    told["is_refused"] = True
print(json.dumps(told))
"""


def test_tensorflow_is_given_threads_precision_and_to_be_deterministic(run_script, tmp_path):
    told = json.loads(run_script(CONFIGURE, cwd=tmp_path)[0])
    # device, threads, parts, precision, replicas; threads within an operation, operations at a time
    assert told["whole"] == ["CPU", 3, 1, "float32", 1, 3, 3]
    # a thread for each part of a batch, and none of them waits for another within an operation
    assert told["divided"] == ["CPU", 2, 2, "mixed_bfloat16", 1, 1, 2]
    assert told["dtypes"] == ["bfloat16", "float32"]
    assert told["is_refused"]


def build_random(hardware):
    with building(3, hardware):
        layers = [keras.layers.Dense(8) for _ in range(40)]
        model = keras.Sequential([keras.Input((8,)), *layers, keras.layers.Dropout(0.5)])
    return [keras.ops.convert_to_numpy(variable) for variable in model.variables]


def test_weights_are_the_same_while_another_thread_draws_random_numbers(hardware):
    alone = build_random(hardware)
    is_over = threading.Event()

    def draw():
        while not is_over.is_set():
            random.random()  # noqa: S311 - no secret

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        beside = build_random(hardware)
    finally:
        is_over.set()
        thread.join()
    assert len(alone) == 81
    for first, second in zip(alone, beside, strict=True):
        np.testing.assert_array_equal(first, second)


#: Two devices that a machine without GPUs has as well; everything else is as with two GPUs.
MIRRORED = """
import json
import sys
from pathlib import Path
import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
tf.config.experimental.enable_op_determinism()

from cotejo.data.readers import LabelledImages
from cotejo.training.checkpoint import Checkpoints
from cotejo.training.fit import Job, fit
from cotejo.training.hardware import Hardware
from declared import declare

digits = load_digits()
images = np.rint(digits.images * 255 / 16).astype(np.uint8)[..., np.newaxis]
alone = Hardware("CPU", 2, 1, "float32", tf.distribute.get_strategy())
mirrored = Hardware("2 CPUs", 2, 1, "float32", tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"]))

def run(hardware, batch_size=32, num_train=100, num_val=68, has_checkpoints=False):
    train = LabelledImages(images[:num_train], digits.target[:num_train])
    val = LabelledImages(images[500:][:num_val], digits.target[500:][:num_val])
    settings = declare("lenet", epochs=4, batch_size=batch_size, learning_rate=0.01, class_weights="balanced")
    keras.utils.set_random_seed(0)
    with hardware.strategy.scope():
        inputs = keras.Input((8, 8, 1), dtype="uint8")
        x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
        x = keras.layers.Dense(16, activation="relu", kernel_regularizer="l2")(x)
        model = keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(x))
    places = Checkpoints(FOLDER, "net") if has_checkpoints else None
    result = fit(Job.of(model, train, val), settings, 0, "net", lambda row: None, hardware, places)
    return {"losses": result.history["loss"].tolist(), "weights": [weight.tolist() for weight in model.get_weights()]}

def attempt(**sizes):
    try:
        return run(mirrored, **sizes)
    except Exception as error:
        return {"error": str(error)}

FOLDER = Path("net/seed-0")
told = {"replicas": mirrored.strategy.num_replicas_in_sync}
if sys.argv[1] == "once":
    told |= {"alone": run(alone), "whole": run(mirrored, has_checkpoints=True)}
else:
    (FOLDER / "epoch-00004.ckpt").unlink()
    told["resumed"] = run(mirrored, has_checkpoints=True)
    told["odd batches"] = attempt(batch_size=33, num_val=31)  # of training 3 of 33 and 1 of 1, of validation 1 of 31
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def once(run_script):
    """Folder of a training on one device and one on two, which leaves its checkpoints."""
    return make_once("mirrored-once", partial(train_mirrored, run_script, "once"))


@pytest.fixture(scope="module")
def resumed(run_script, once):
    """Folder of a training on two devices that has lost its last checkpoint, and of one in odd batches."""

    def make(folder):
        shutil.copytree(once / "net", folder / "net")
        train_mirrored(run_script, "resumed", folder)

    return make_once("mirrored-resumed", make)


def train_mirrored(run_script, how, folder):
    (folder / "told.json").write_text(run_script(MIRRORED, how, cwd=folder)[0])


def read_told(folder):
    return json.loads((folder / "told.json").read_text())


def test_a_batch_spread_over_two_devices_trains_as_on_one(once):
    told = read_told(once)
    assert told["replicas"] == 2
    whole, alone = told["whole"], told["alone"]
    assert whole["losses"][-1] < 0.8 * whole["losses"][0]
    np.testing.assert_allclose(whole["losses"], alone["losses"], rtol=1e-5)
    for left, right in zip(whole["weights"], alone["weights"], strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-3, atol=1e-5)


@pytest.mark.slow  # on one device each case of test_checkpoint.py is resumed
def test_a_training_on_two_devices_is_resumed_from_a_checkpoint(once, resumed):
    assert read_told(resumed)["resumed"] == read_told(once)["whole"]


@pytest.mark.slow  # on one device test_fit.py has batches of every size
def test_batches_that_two_devices_cannot_share_evenly_are_trained_on_too(resumed):
    told = read_told(resumed)["odd batches"]
    assert "error" not in told, told["error"]
    assert told["losses"][-1] < 0.8 * told["losses"][0]


def test_timings_say_what_they_were_measured_on(digits, build_dense, hardware, run, tmp_path):
    settings = declare("lenet", epochs=3, batch_size=32)
    told = hardware._replace(device="2 GPUs")
    trainings = SeedTrainings("lenet", settings, [7], run, tmp_path / "checkpoints", tmp_path)
    trained = trainings.train_here(lambda _: Job.of(build_dense(), *digits), told)
    save_timings(trained, "train-lenet", tmp_path / "timings.json")
    timings = json.loads((tmp_path / "timings.json").read_text())
    assert timings["stage"] == "train-lenet"
    assert (timings["device"], timings["threads"]) == ("2 GPUs", 2)
    assert timings["machine"].endswith(f", {os.cpu_count()} cores")
    assert len(timings["machine"].split(", ")[0]) > 3
    (row,) = timings["per_seed"]
    assert list(row) == ["seed", "precision", "train_time_s", "epoch_time_s", "images_per_s", "peak_memory_bytes"]
    assert (row["seed"], row["precision"]) == (7, "float32")
    # three epochs took all the time; an epoch's images in less than an epoch's time
    assert row["train_time_s"] > 1.5 * row["epoch_time_s"] > 0
    assert row["images_per_s"] > 300 / row["epoch_time_s"]


@pytest.mark.skipif(platform.system() != "Linux", reason="reads /proc")
def test_the_peak_of_memory_is_what_the_system_says():
    assert measure_peak_memory() == pytest.approx(measure_peak(), rel=0.01)


@pytest.mark.parametrize(
    ("memory_bytes", "expected"),
    [(None, 2**30), (1_500_000_000, 0), (900_000_000, 0), (2_000_000_000, 125_000_000), (100 * 10**9, 2**30)],
)
def test_what_tensorflow_and_a_net_leave_of_the_memory_bounds_what_is_copied(hardware, memory_bytes, expected):
    assert hardware._replace(memory_bytes=memory_bytes).max_bytes_in_graph == expected


def test_who_takes_more_than_the_memory_limit_learns_what_to_lower():
    said = []
    for enough in (None, 100 * 10**12):
        check_memory("train-lenet seed 0", enough, "batch_size", said.append)
    assert said == []
    check_memory("train-lenet seed 0", 50_000_000, "batch_size", said.append)
    assert said[0].startswith("warning: train-lenet seed 0: expected to stay under 0.05 GB, this process's share of")
    assert said[0].endswith(" GB. Lower batch_size, or raise the limit.")
