"""Features of a frozen backbone: computed once, and the same answers as if they weren't."""

import json
import os
import time
import tracemalloc

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from answers import answer
from cotejo.data.readers import LabelledImages
from cotejo.errors import ModelError
from cotejo.models import lenet
from cotejo.models.backbones import BACKBONE, build_backbone, build_extractor, build_head, join, take_backbone
from cotejo.training import features
from cotejo.training.archive import load_model, save_model
from cotejo.training.features import compute_features, load_features, prepare_transfer
from cotejo.training.fit import Job, fit
from cotejo.training.hardware import Hardware
from declared import declare

SETTINGS = declare(
    "transfer", alpha=0.25, weights="random", input_size=32, dropout_rate=0.5, epochs=2, batch_size=32,
    learning_rate=1e-2,
)  # fmt: skip
HARDWARE = Hardware("CPU", 2, 1, "float32", tf.distribute.get_strategy())
AUGMENTED = declare("transfer", weights="random", input_size=32, dropout_rate=0.0, augmentation={"rotation": 20.0})
#: A model of the study's serves as the backbone.
OWN = {"weights": "model:own.keras", "weights_path": "own.keras"}

#: Prepares features, once for each cache; waits for a file first, so that two can be let go at once.
PREPARE = """
import hashlib, json, resource, sys, time
from pathlib import Path
from sklearn.datasets import load_digits
from cotejo.data.readers import LabelledImages
from cotejo.data.splits import Dataset
from cotejo.training.features import prepare_transfer
from cotejo.training.hardware import Hardware
from declared import declare
import tensorflow as tf

weights, caches, go = json.loads(sys.argv[1])
images = (load_digits().images * 15).astype("uint8")[..., None]
splits = [LabelledImages(part, part[:, 0, 0, 0].astype(int)) for part in (images[:1500], images[1500:])]
settings = declare("transfer", weights="model:own.keras", weights_path="own.keras")
dataset = Dataset("digits", list("0123456789"), (8, 8, 1), "")
hardware = Hardware("CPU", 2, 1, "float32", tf.distribute.get_strategy())
print("ready", flush=True)
while not Path(go).exists():
    time.sleep(0.001)
for cache, limit_bytes in caches:
    if limit_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
    job = prepare_transfer(settings, Path(weights), dataset, *splits, Path(cache), hardware)(0)
    print(hashlib.sha256(job.train.images.tobytes() + job.val.images.tobytes()).hexdigest())
"""


def save_weights(path, seed):
    """Saves weights whose features differ from image to image, as trained ones do and random ones hardly."""
    keras.utils.set_random_seed(seed)
    backbone = build_backbone(SETTINGS, None)
    backbone.trainable = True
    for layer in backbone.layers:
        layer.momentum = 0.0
    backbone(np.random.default_rng(seed).uniform(-1, 1, (32, 32, 32, 3)).astype(np.float32), training=True)
    backbone.save(path)
    return path


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    return save_weights(tmp_path_factory.mktemp("weights") / "mobilenet.h5", 0)


@pytest.fixture(scope="module")
def extractor(weights_file):
    return build_extractor(build_backbone(SETTINGS, weights_file), (8, 8, 1), SETTINGS)


@pytest.fixture(scope="module")
def cheap_extractor():
    """An extractor that costs next to nothing, with as many features as the backbone."""
    keras.utils.set_random_seed(0)
    images = keras.Input((8, 8, 1), dtype="uint8")
    x = keras.layers.Conv2D(4, 3, activation="relu")(keras.layers.Rescaling(1 / 255)(images))
    return keras.Model(images, keras.layers.Dense(256)(keras.layers.Flatten()(x)))


@pytest.fixture(scope="module")
def own_file(tmp_path_factory):
    """A model of the study's, which costs less than MobileNet where it serves as the backbone."""
    path = tmp_path_factory.mktemp("own") / "own.keras"
    save_model(lenet.build_model(declare("lenet", input_size=16), (8, 8, 1), 10), path)
    return path


@pytest.fixture
def without_computing(monkeypatch):
    """Makes features zeros, where it only matters whether they are computed."""

    def compute_zeros(extractor, images, num_parts):
        yield np.zeros((len(images), extractor.output_shape[-1]), np.float32)

    monkeypatch.setattr(features, "compute_features", compute_zeros)


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "features"


def list_files(folder):
    """Maps each file to what changes whenever it is written anew, even with the same bytes."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()}


@pytest.fixture
def start_process(start_script, own_file, tmp_path):
    """Starts a process that, when a file is there, prepares features once for each cache and limit of its files."""

    def start(go, *caches):
        named = [(str(path), limit) for path, limit in caches]
        process = start_script(PREPARE, json.dumps([str(own_file), named, str(go)]), cwd=tmp_path)
        started.append(process)
        return process

    started = []
    yield start
    for process in started:
        process.kill()
        process.communicate()


def finish(go, *processes):
    """Lets all go at once, by making a file; returns the digests and the messages of each."""
    for process in processes:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
    go.touch()
    ended = [process.communicate(timeout=300) for process in processes]
    for process, (_, stderr) in zip(processes, ended, strict=True):
        assert process.returncode == 0, stderr
    return [(out.split(), [line for line in err.splitlines() if "transfer-learn:" in line]) for out, err in ended]


@pytest.mark.parametrize("num_parts", [1, 3])
@pytest.mark.parametrize("batch_size", [7, 99, 100, 1_000], ids=["partial", "one image left", "even", "one"])
def test_every_image_has_its_features_also_those_of_a_partial_last_batch(
    cheap_extractor, digits, monkeypatch, batch_size, num_parts
):
    monkeypatch.setattr(features, "choose_batch_size", lambda _: batch_size)
    images = digits[1].images
    computed = np.concatenate(list(compute_features(cheap_extractor, images, num_parts)))
    assert (computed.shape, computed.dtype) == ((100, 256), np.float32)
    np.testing.assert_allclose(computed, cheap_extractor.predict(images, verbose=0), rtol=1e-4, atol=1e-5)
    assert np.ptp(computed, axis=0).max() > 0.1, "all images alike: the test could not tell them apart"


@pytest.mark.parametrize(("input_size", "batch_size"), [(32, 256), (64, 256), (96, 113), (224, 20)])
def test_large_images_go_through_the_backbone_a_few_at_a_time(input_size, batch_size):
    settings = declare("transfer", input_size=input_size, weights="random")
    wide = build_extractor(build_backbone(settings, None), (28, 28, 1), settings)
    assert features.choose_batch_size(wide) == batch_size
    assert batch_size * input_size**2 <= 256 * 64**2


def test_features_and_head_give_the_probabilities_of_the_joined_model(extractor, digits, cache):
    images = digits[1].images
    head = build_head(256, 10, SETTINGS)
    joined = answer(join(extractor, head), images)
    loaded = load_features(SETTINGS, extractor, images, "val", cache, HARDWARE)
    np.testing.assert_allclose(answer(head, loaded), joined, atol=1e-6)


def test_training_the_head_trains_the_saved_model_and_leaves_the_backbone_alone(weights_file, digits, dataset, cache):
    job = prepare_transfer(SETTINGS, weights_file, dataset, *digits, cache, HARDWARE)(0)
    backbone = job.model.get_layer(BACKBONE)
    before = [np.copy(weight) for weight in backbone.get_weights()]
    answers = answer(job.model, digits[1].images)
    result = fit(job, SETTINGS, 0, "transfer", lambda _: None, HARDWARE)
    for old, new in zip(before, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    after = answer(job.model, digits[1].images)
    assert not np.allclose(answers, after)
    # what was validated on features is what the saved model does on images
    accuracy = (after.argmax(axis=1) == digits[1].labels).mean()
    assert accuracy == pytest.approx(result.history["val_accuracy"].iloc[result.best_epoch - 1])


@pytest.mark.parametrize("kind", ["own", pytest.param("mobilenet", marks=pytest.mark.slow)])
def test_training_on_cached_features_is_training_through_the_frozen_backbone(request, kind, digits, dataset, cache):
    declared = {
        "own": {**OWN, "batch_size": 32, "learning_rate": 5e-2},
        "mobilenet": {"weights": "random", "input_size": 32, "learning_rate": 1e-2},
    }[kind]
    weights = request.getfixturevalue({"own": "own_file", "mobilenet": "weights_file"}[kind])
    settings = declare("transfer", **declared, dropout_rate=0.0, epochs=6)
    histories = []
    for through_backbone in (False, False, True):  # features computed, features from the cache, no features
        keras.utils.set_random_seed(0)
        prepare = prepare_transfer(settings, weights, dataset, *digits, cache, HARDWARE)
        keras.utils.set_random_seed(1)
        job = prepare(1)
        if through_backbone:
            job = Job(job.model, job.model, *digits)
        histories.append(fit(job, settings, 1, "transfer", lambda _: None, HARDWARE).history)
    computed, cached, plain = histories
    pd.testing.assert_frame_equal(computed, cached)
    pd.testing.assert_frame_equal(computed, plain, rtol=1e-4)
    assert computed["loss"].iloc[-1] < 0.9 * computed["loss"].iloc[0], "nothing learned, nothing compared"


def test_features_are_mapped_from_a_file_that_numpy_reads(own_settings, own_file, digits, dataset, cache):
    train = prepare_transfer(own_settings, own_file, dataset, *digits, cache, HARDWARE)(0).train
    extractor = build_extractor(take_backbone(load_model(own_file), own_file), (8, 8, 1), own_settings)
    assert isinstance(train.images, np.memmap)
    assert not train.images.flags.writeable
    np.testing.assert_array_equal(train.labels, digits[0].labels)
    (file,) = cache.glob("train-*.npy")
    np.testing.assert_array_equal(np.load(file), np.concatenate(list(compute_features(extractor, digits[0].images))))


def test_features_of_given_weights_are_computed_once_for_all_seeds(
    own_settings, own_file, digits, dataset, cache, capsys
):
    prepare = prepare_transfer(own_settings, own_file, dataset, *digits, cache, HARDWARE)
    jobs = [prepare(seed) for seed in (0, 1, 2)]
    messages = capsys.readouterr().err.splitlines()
    assert [line.split(" images computed in ")[0] for line in messages] == [
        "transfer-learn: features of 300 train",
        "transfer-learn: features of 100 val",
    ]
    assert jobs[0].train.images is jobs[2].train.images
    assert jobs[0].model is not jobs[1].model


@pytest.mark.parametrize("change", [{}, {"learning_rate": 0.1, "epochs": 9, "dropout_rate": 0.1}], ids=["same", "head"])
def test_a_later_run_takes_the_features_from_the_cache(own_settings, own_file, digits, dataset, cache, capsys, change):
    first = prepare_transfer(own_settings, own_file, dataset, *digits, cache, HARDWARE)(0)
    before = list_files(cache)
    capsys.readouterr()
    second = prepare_transfer(own_settings.model_copy(update=change), own_file, dataset, *digits, cache, HARDWARE)(0)
    assert list_files(cache) == before
    messages = capsys.readouterr().err.splitlines()
    assert len(messages) == 2
    assert all("images come from the cache" in line for line in messages)
    np.testing.assert_array_equal(first.train.images, second.train.images)


@pytest.mark.usefixtures("without_computing")
def test_features_are_computed_anew_for_whatever_changes_them(
    weights_file, extractor, digits, dataset, cache, tmp_path, monkeypatch
):
    train, val = digits

    def list_new(settings=SETTINGS, weights=weights_file):
        present = set(cache.glob("*"))
        prepare_transfer(settings, weights, dataset, train, val, cache, HARDWARE)
        return sorted(path.name.split("-")[0] for path in set(cache.iterdir()) - present)

    def is_new(images, hardware=HARDWARE):
        present = set(cache.iterdir())
        load_features(SETTINGS, extractor, images, "train", cache, hardware)
        return set(cache.iterdir()) != present

    assert list_new() == ["train", "val"]
    assert list_new(weights=save_weights(tmp_path / "other.h5", 1)) == ["train", "val"]
    assert list_new(SETTINGS.model_copy(update={"input_size": 40})) == ["train", "val"]
    assert list_new(SETTINGS.model_copy(update={"pooling": "max"})) == ["train", "val"]
    one_pixel = np.copy(train.images)
    one_pixel[299, 4, 4, 0] ^= 1
    assert is_new(one_pixel)
    assert is_new(train.images[::-1])
    assert is_new(train.images[:299])
    assert not is_new(np.copy(train.images))
    with monkeypatch.context() as patched:
        patched.setattr(features, "list_versions", lambda: {"tensorflow": "9"})
        assert is_new(train.images)
    assert is_new(train.images, HARDWARE._replace(num_parts=2))
    assert is_new(train.images, HARDWARE._replace(threads=17))


def keep_half(path):
    os.truncate(path, path.stat().st_size // 2)


def add_a_byte(path):
    path.write_bytes(path.read_bytes() + b"\0")


def change_the_shape(path):
    np.save(path, np.load(path).reshape(200, 128))


def change_the_type(path):
    np.save(path, np.load(path).astype(np.int32))


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [keep_half, add_a_byte, change_the_shape, change_the_type, empty])
def test_a_damaged_file_is_named_and_computed_anew_to_the_same_bytes(cheap_extractor, digits, cache, capsys, damage):
    def load():
        load_features(SETTINGS, cheap_extractor, digits[1].images, "val", cache, HARDWARE)
        return capsys.readouterr().err.splitlines()

    load()
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    damage(file)
    assert file.read_bytes() != whole
    noticed, computed = load()
    assert f"{file} can't be used and is computed anew: expected float32 of shape (100, 256) in " in noticed
    assert "100 val images computed" in computed
    assert file.read_bytes() == whole
    assert "100 val images come from the cache" in load()[0]


@pytest.mark.slow
def test_processes_share_a_cache_and_one_on_a_full_disk_does_without(start_process, cache, tmp_path):
    small_disk = tmp_path / "small disk"
    at_first, later = tmp_path / "go at first", tmp_path / "go later"
    first, second = start_process(at_first, (cache, None)), start_process(at_first, (cache, None))
    third = start_process(later, (cache, None), (small_disk, 10_000))

    at_once = finish(at_first, first, second)
    assert not any("stay in memory" in line for _, messages in at_once for line in messages)
    digests = {digest for digests, _ in at_once for digest in digests}
    assert len(digests) == 1
    assert sorted(path.name.split("-")[0] for path in cache.iterdir()) == ["train", "val"]

    ((cached, in_memory), messages) = finish(later, third)[0]
    assert {cached, in_memory} == digests
    assert ["come from the cache" in line for line in messages[:2]] == [True, True]
    assert "expected to write features of 1,500 train images to " in messages[2]
    assert "Received: [Errno 27] File too large. They stay in memory, for this run only" in messages[2]
    assert "1,500 train images computed" in messages[3]
    assert list(small_disk.iterdir()) == []


def test_a_cache_that_is_no_folder_costs_the_cache_and_not_the_run(cheap_extractor, digits, cache, capsys):
    cache.write_text("in the way")
    loaded = load_features(SETTINGS, cheap_extractor, digits[1].images, "val", cache, HARDWARE)
    assert loaded.shape == (100, 256)
    assert "They stay in memory, for this run only" in capsys.readouterr().err
    assert cache.read_text() == "in the way"


def test_what_a_killed_process_left_is_removed_and_what_a_live_one_writes_is_not(cheap_extractor, digits, cache):
    cache.mkdir()
    abandoned, live = cache / ".part-1-train.npy", cache / ".part-2-train.npy"
    for path in (abandoned, live):
        path.write_bytes(b"half")
    long_ago_s = time.time() - 2 * features.ABANDONED_AFTER_S
    os.utime(abandoned, (long_ago_s, long_ago_s))
    load_features(SETTINGS, cheap_extractor, digits[1].images, "val", cache, HARDWARE)
    assert (abandoned.exists(), live.exists()) == (False, True)


def test_a_split_of_features_is_never_whole_in_memory(cache):
    pixels = keras.Input((4, 4, 1))
    wide = keras.Model(pixels, keras.layers.Dense(2048)(keras.layers.Flatten()(pixels)))
    images = np.zeros((4_000, 4, 4, 1), np.uint8)
    tracemalloc.start()
    try:
        loaded = load_features(SETTINGS, wide, images, "train", cache, HARDWARE)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert loaded.nbytes > 32e6
    assert peak_bytes < 12e6


@pytest.mark.usefixtures("without_computing")
def test_random_backbones_differ_by_seed_and_so_do_their_cached_features(digits, dataset, cache, capsys):
    train, val = (LabelledImages(split.images[:8], split.labels[:8]) for split in digits)
    prepare = prepare_transfer(SETTINGS, None, dataset, train, val, cache, HARDWARE)
    models = []
    for seed in (0, 1, 0):
        keras.utils.set_random_seed(seed)
        models.append(prepare(seed).model.get_weights())
    assert ["computed in" in line for line in capsys.readouterr().err.splitlines()] == [True] * 4 + [False] * 2
    assert len(list(cache.iterdir())) == 4
    assert not np.array_equal(models[0][0], models[1][0])
    for first, again in zip(models[0], models[2], strict=True):
        np.testing.assert_array_equal(first, again)


@pytest.fixture
def mixed_bfloat16():
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy("float32")


@pytest.mark.usefixtures("mixed_bfloat16")
def test_features_and_the_model_that_is_saved_are_float32_in_any_precision(weights_file, digits, dataset, cache):
    job = prepare_transfer(SETTINGS, weights_file, dataset, *digits, cache, HARDWARE)(0)
    assert keras.config.dtype_policy().name == "mixed_bfloat16"
    assert job.train.images.dtype == np.float32
    assert {layer.compute_dtype for layer in job.model._flatten_layers()} == {"float32"}
    keras.config.set_dtype_policy("float32")
    before = list_files(cache)
    prepare_transfer(SETTINGS, weights_file, dataset, *digits, cache, HARDWARE)
    assert list_files(cache) == before


def test_augmented_images_go_through_the_frozen_backbone_and_it_says_so(weights_file, digits, dataset, cache, capsys):
    job = prepare_transfer(AUGMENTED, weights_file, dataset, *digits, cache, HARDWARE)(0)
    (message,) = capsys.readouterr().err.splitlines()
    assert "transfer.augmentation shows other images in every epoch: no features are cached" in message
    assert not cache.exists()
    assert job.trained is job.model
    assert (job.train.images is digits[0].images, job.val.images is digits[1].images) == (True, True)
    images = digits[1].images
    np.testing.assert_array_equal(job.model(images, training=True), job.model(images, training=False))
    assert len(job.model.trainable_variables) == 2, "the head's kernel and bias alone"


@pytest.mark.usefixtures("mixed_bfloat16")
def test_training_through_the_backbone_keeps_the_declared_precision(weights_file, digits, dataset, cache):
    model = prepare_transfer(AUGMENTED, weights_file, dataset, *digits, cache, HARDWARE)(0).model
    assert model.get_layer(BACKBONE).layers[1].compute_dtype == "bfloat16"
    assert model.output.dtype == "float32"


def test_a_sigmoid_unit_for_ten_classes_is_refused_before_any_feature_is_computed(digits, dataset, cache):
    settings = SETTINGS.model_copy(update={"output": "sigmoid"})
    with pytest.raises(ModelError, match=r"transfer\.output: expected two classes.*Received: 10 classes"):
        prepare_transfer(settings, None, dataset, *digits, cache, HARDWARE)
    assert not cache.exists()


@pytest.fixture
def own_settings():
    return declare("transfer", **OWN, dropout_rate=0.0, epochs=3, batch_size=32, learning_rate=1e-2)


def test_a_model_trained_here_is_the_frozen_backbone_of_another(own_settings, digits, dataset, cache, tmp_path, capsys):
    path = tmp_path / "own.keras"
    own = lenet.build_model(declare("lenet", input_size=16), (8, 8, 1), 10)
    save_model(own, path)
    job = prepare_transfer(own_settings, path, dataset, *digits, cache, HARDWARE)(0)
    result = fit(job, own_settings, 0, "transfer", lambda _: None, HARDWARE)
    assert result.history["loss"].iloc[-1] < result.history["loss"].iloc[0]
    for layer in job.model.get_layer(BACKBONE).layers:
        for before, after in zip(own.get_layer(layer.name).get_weights(), layer.get_weights(), strict=True):
            np.testing.assert_array_equal(before, after)
    accuracy = (answer(job.model, digits[1].images).argmax(axis=1) == digits[1].labels).mean()
    assert accuracy == pytest.approx(result.history["val_accuracy"].iloc[result.best_epoch - 1])

    capsys.readouterr()
    prepare_transfer(own_settings, path, dataset, *digits, cache, HARDWARE)
    assert capsys.readouterr().err.count("come from the cache") == 2
    # the same weights, put together in another way
    other = lenet.build_model(declare("lenet", input_size=16, activation="relu"), (8, 8, 1), 10)
    other.set_weights(own.get_weights())
    save_model(other, path)
    prepare_transfer(own_settings, path, dataset, *digits, cache, HARDWARE)
    assert capsys.readouterr().err.count("computed in") == 2


def test_a_file_that_is_no_model_is_refused_as_a_backbone(own_settings, digits, dataset, cache, tmp_path):
    path = tmp_path / "own.keras"
    path.write_text("<html>")
    with pytest.raises(ModelError, match=r"own\.keras: expected a model saved by this study\. Received: "):
        prepare_transfer(own_settings, path, dataset, *digits, cache, HARDWARE)


def test_wrong_weights_are_refused_before_any_seed_is_trained(tmp_path, digits, dataset, cache):
    (tmp_path / "weights.h5").write_bytes(b"<html>")
    with pytest.raises(ModelError, match=r"weights\.h5: expected MobileNet's weights for alpha 0\.25"):
        prepare_transfer(SETTINGS, tmp_path / "weights.h5", dataset, *digits, cache, HARDWARE)
