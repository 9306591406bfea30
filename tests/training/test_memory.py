"""runtime.memory_limit: images that don't fit stay on the disk, and the trained bytes are the same."""

import json
import sys

import numpy as np
import pytest
from ruamel.yaml import YAML

from copied_study import copy_study
from cotejo.params import read_yaml
from cotejo.schema.study import MIN_MEMORY
from peak_memory import run_and_measure_peak

#: 400 MB of training images, large ones so that the net needs little for each, few in a batch.
NUM_IMAGES, SHAPE = 4_000, (182, 183, 3)

TRAIN = """
import hashlib, json, sys
from pathlib import Path

import keras
import tensorflow as tf

from cotejo.data.splits import load_training_data
from cotejo.training.fit import Job, fit
from cotejo.training.hardware import Hardware
from declared import declare
from peak_memory import measure_peak

folder, memory_bytes = Path(sys.argv[1]), json.loads(sys.argv[2])
data = load_training_data(folder)
keras.utils.set_random_seed(0)
images = keras.Input(data.dataset.image_shape, dtype="uint8")
x = keras.layers.AveragePooling2D(30)(keras.layers.Rescaling(1 / 255)(images))
model = keras.Model(images, keras.layers.Dense(10, activation="softmax")(keras.layers.Flatten()(x)))
hardware = Hardware("CPU", 2, 1, "float32", tf.distribute.get_strategy(), memory_bytes)
before = measure_peak()
settings = declare("lenet", epochs=2, batch_size=8)
result = fit(Job.of(model, data.train, data.val), settings, 0, "dense", lambda _: None, hardware)
weights = hashlib.sha256(b"".join(weight.tobytes() for weight in model.get_weights())).hexdigest()
print(json.dumps([measure_peak() - before, weights, result.history.to_csv()]))
"""


def write_splits(folder, num_images, shape):
    """Writes what preprocess would, a block at a time: noise, with the label in the first row of pixels."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (500, *shape), dtype=np.uint8)
    for split, count in (("train", num_images), ("val", 500), ("test", 500)):
        labels = np.arange(count) % 10
        np.save(folder / f"{split}_labels.npy", labels)
        with (folder / f"{split}_images.npy").open("wb") as file:
            described = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
            np.lib.format.write_array_header_1_0(file, described)
            for start in range(0, count, len(noise)):
                block = noise[: count - start]
                block[:, 0] = 25 * labels[start : start + len(block), None, None]
                file.write(block.data)
    described = {"name": "noise", "class_names": list("0123456789"), "image_shape": shape, "digest": "0" * 64}
    (folder / "dataset.json").write_text(json.dumps(described))


def test_a_set_that_does_not_fit_stays_on_the_disk_and_trains_to_the_same_bytes(run_script, tmp_path):
    write_splits(tmp_path / "data", NUM_IMAGES, SHAPE)
    size_bytes = (tmp_path / "data/train_images.npy").stat().st_size
    (without, *expected), (limited, *found) = (
        json.loads(run_script(TRAIN, str(tmp_path / "data"), json.dumps(memory_bytes), cwd=tmp_path)[0])
        for memory_bytes in (None, MIN_MEMORY)
    )
    assert found == expected
    assert without > size_bytes, "without a limit the images are in memory"
    assert limited < size_bytes / 2


@pytest.mark.slow
def test_training_on_three_times_the_memory_limit_stays_under_it(environment, tmp_path):
    study, limit = copy_study(tmp_path / "study"), 1_500_000_000
    write_splits(study / "data/processed", 3 * limit // (128 * 128 * 3), (128, 128, 3))
    declared = read_yaml(study / "params.yaml")
    declared["base"]["seeds"], declared["lenet"]["epochs"] = [0], 1
    declared["runtime"].update(memory_limit="1.5GB", tracking="off")
    YAML().dump(declared, study / "params.yaml")
    peak_bytes = run_and_measure_peak([sys.executable, "stages/train.py", "lenet"], study, environment)
    timing = json.loads((study / "reports/timings/train-lenet.json").read_text())["per_seed"][0]
    assert timing["peak_memory_bytes"] <= peak_bytes < limit
