"""Saved models: bytes that depend on the model alone, and that stock Keras loads."""

import hashlib
import io
import json
import os
import subprocess
import sys
import time
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from answers import answer
from cotejo.errors import ModelError
from cotejo.models import resnet
from cotejo.models.layers import BatchNormalization
from cotejo.models.lenet import build_model
from cotejo.training.archive import load_model, save_model
from cotejo.training.description import read_serving
from cotejo.training.fit import Job, fit
from cotejo.training.hardware import Hardware
from declared import declare


@pytest.fixture(scope="module")
def trained(digits):
    settings = declare("lenet", epochs=1, batch_size=64, learning_rate=1e-2)
    model = build_model(settings, (8, 8, 1), 10)
    hardware = Hardware("CPU", 2, 1, "float32", tf.distribute.get_strategy())
    fit(Job(model, model, *digits), settings, 0, "lenet", lambda *_: None, hardware)
    return model


@pytest.fixture
def saved(trained, tmp_path):
    save_model(trained, tmp_path / "model.keras")
    return tmp_path / "model.keras"


def test_stock_keras_loads_it_and_answers_the_same(trained, saved, digits):
    images = digits[1].images
    expected = answer(trained, images)
    stock = keras.saving.load_model(saved)
    np.testing.assert_array_equal(answer(stock, images), expected)
    np.testing.assert_array_equal(answer(load_model(saved), images), expected)
    assert [layer.name for layer in stock.layers] == [layer.name for layer in trained.layers]


STOCK_KERAS = """
import sys
import keras
import numpy as np

model = keras.saving.load_model(sys.argv[1])
np.save(sys.argv[3], model(np.load(sys.argv[2]), training=False))
assert not any(name.partition(".")[0] == "cotejo" for name in sys.modules)
assert any(type(layer) is keras.layers.BatchNormalization for layer in model.layers)
"""


def build_normalised(kind):
    """A small net with batch normalisation of either kind, whose statistics aren't the initial ones."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    stack = [keras.layers.Conv2D(4, 3), kind(), keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")]
    model = keras.Sequential([keras.Input((8, 8, 1)), *stack], name="normalised")
    model.layers[1].set_weights([np.linspace(low, 2, 4) for low in (0.5, -1, -2, 1)])
    return model


def test_keras_without_cotejo_loads_a_net_with_our_batch_normalization(digits, run_script, tmp_path):
    images = digits[1].images
    model = resnet.build_model(declare("resnet", input_size=8, activation="prelu"), (8, 8, 1), 10)
    assert any(isinstance(layer, BatchNormalization) for layer in model.layers)
    for layer in model.layers:
        layer.momentum = 0.0
    model(images, training=True)  # moves the statistics
    save_model(model, tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images)
    files = [str(tmp_path / name) for name in ("model.keras", "images.npy", "answers.npy")]
    run_script(STOCK_KERAS, *files, cwd=tmp_path)
    answers = np.load(tmp_path / "answers.npy")
    np.testing.assert_allclose(answers, answer(model, images), atol=1e-6)
    assert answers.std(axis=0).max() > 1e-3, "all images look the same to it"


def test_a_net_with_our_batch_normalization_has_the_bytes_of_one_with_kerass(tmp_path):
    for number, kind in enumerate((BatchNormalization, keras.layers.BatchNormalization)):
        save_model(build_normalised(kind), tmp_path / f"{number}.keras")
    assert (tmp_path / "0.keras").read_bytes() == (tmp_path / "1.keras").read_bytes()


def build_resizing():
    """Dropout and batch normalisation after a Resizing, in the net itself and in one within it."""
    keras.utils.set_random_seed(0)
    inner = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)])
    images = keras.Input((8, 8, 1), dtype="uint8")
    x = keras.layers.Resizing(4, 4)(keras.layers.Rescaling(1 / 255)(images))
    x = keras.layers.Dropout(0.5)(inner(x))
    x = keras.layers.Flatten()(keras.layers.BatchNormalization()(x))
    return keras.Model(images, keras.layers.Dense(3, activation="softmax")(x))


@pytest.mark.parametrize("load", [load_model, keras.saving.load_model])
def test_calling_a_model_that_resizes_answers_as_predicting_does(load, digits, tmp_path):
    images = digits[1].images
    model = build_resizing()
    expected = model.predict(images, verbose=0)
    save_model(model, tmp_path / "model.keras")
    assert np.abs(model(images) - expected).max() > 1e-3, "Keras has mended it: save_model needn't"
    loaded = load(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(images), expected, atol=1e-6)
    np.testing.assert_allclose(loaded.predict(images, verbose=0), expected, atol=1e-6)
    assert np.abs(loaded(images, training=True) - expected).max() > 1e-3, "training still drops out"


def test_no_clock_and_no_optimizer_is_inside(saved):
    with zipfile.ZipFile(saved) as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert json.loads(archive.read("metadata.json"))["date_saved"].startswith("1980-01-01")
        assert json.loads(archive.read("config.json"))["compile_config"] == {}
        with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as weights:
            stored = []
            weights.visititems(lambda _, item: stored.append(item.size) if isinstance(item, h5py.Dataset) else None)
            assert sum(stored) == 61_706, "Adam's moments would treble it"


def test_the_same_model_built_and_saved_at_another_time_has_the_same_bytes(tmp_path):
    hashes = set()
    for number in range(2):
        keras.utils.clear_session()
        keras.utils.set_random_seed(0)
        ballast = [bytearray(1_000) for _ in range(1_000 * number)]  # moves what follows in memory
        # two activations of one object, which Keras numbers by its address
        shared = keras.layers.LeakyReLU(name="shared")
        images = keras.Input((8, 8, 1))
        x = keras.layers.Conv2D(4, 3, activation=shared)(images)
        x = keras.layers.Conv2D(4, 3, activation=shared)(x)
        save_model(keras.Model(images, x, name="pair"), tmp_path / "model.keras")
        hashes.add(hashlib.sha256((tmp_path / "model.keras").read_bytes()).hexdigest())
        del ballast
        if number == 0:
            time.sleep(2.1)  # a zip's clock ticks every two seconds
    assert len(hashes) == 1


def test_saving_again_replaces_the_old_model(trained, tmp_path):
    (tmp_path / "model.keras").write_bytes(b"of yesterday")
    save_model(trained, tmp_path / "model.keras")
    assert load_model(tmp_path / "model.keras").count_params() == 61_706


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_truncated_model_is_refused_with_what_to_do(saved, share):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ModelError, match=r"model\.keras: expected a model saved by this study.*dvc checkout"):
        load_model(saved)


def repack(file, **changes):
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in {**members, **changes}.items():
            archive.writestr(name, content)


@pytest.mark.parametrize("member", ["config.json", "model.weights.h5"])
@pytest.mark.parametrize("content", [b"", b"{}", b"\x89HDF\r\n\x1a\n"], ids=["empty", "braces", "hdf5"])
def test_a_model_with_a_damaged_member_is_refused(saved, member, content):
    repack(saved, **{member: content})
    with pytest.raises(ModelError, match=r"model\.keras: expected a model saved by this study"):
        load_model(saved)


def test_a_missing_model_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"model\.keras: expected a model saved by this study"):
        load_model(tmp_path / "model.keras")


def test_code_in_an_archive_is_not_run(tmp_path):
    images = keras.Input((2,))
    model = keras.Model(images, keras.layers.Lambda(lambda x: x * 2)(images))
    save_model(model, tmp_path / "model.keras")
    with pytest.raises(ModelError, match=r"(?i)lambda|unsafe|safe_mode"):
        load_model(tmp_path / "model.keras")


SERVING = {
    "name": "directory", "digest": "ab" * 32, "class_names": ["Año nuevo", "b"], "image_shape": [8, 8, 1],
    "color": "grey", "operations": [{"name": "median_blur", "size": 3}],
}  # fmt: skip


def test_what_a_model_says_of_itself_travels_in_the_archive(trained, digits, tmp_path):
    images = digits[1].images
    for name in ("one", "two"):
        save_model(trained, tmp_path / f"{name}.keras", SERVING)
    save_model(trained, tmp_path / "none.keras")
    assert (tmp_path / "one.keras").read_bytes() == (tmp_path / "two.keras").read_bytes()
    assert read_serving(tmp_path / "one.keras") == SERVING
    assert read_serving(tmp_path / "none.keras") is None
    with zipfile.ZipFile(tmp_path / "one.keras") as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert archive.namelist() == sorted(archive.namelist())
    expected = answer(trained, images)
    for load in (load_model, lambda path: keras.saving.load_model(path, safe_mode=True)):
        np.testing.assert_array_equal(answer(load(tmp_path / "one.keras"), images), expected)


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff\xfe", b""])
def test_a_damaged_description_is_none(saved, content):
    repack(saved, **{"cotejo.json": content})
    assert read_serving(saved) is None


def test_what_is_no_archive_says_nothing_of_itself(tmp_path):
    (tmp_path / "model.keras").write_bytes(b"of yesterday")
    assert read_serving(tmp_path / "model.keras") is None
    assert read_serving(tmp_path / "nowhere.keras") is None


def test_the_description_is_read_without_tensorflow(trained, environment, tmp_path):
    save_model(trained, tmp_path / "model.keras", SERVING)
    code = (
        "import sys; from pathlib import Path; from cotejo.training.description import read_serving; "
        "print(read_serving(Path(sys.argv[1]))['digest']); "
        "assert not {'tensorflow', 'keras'} & sys.modules.keys()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "model.keras")]
    environment = {**environment, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "ab" * 32
