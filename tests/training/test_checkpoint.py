"""Checkpoints: what is saved comes back, and a resumed training ends as if it had never stopped."""

import json
import shutil
import textwrap
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from cotejo.data.readers import LabelledImages
from cotejo.tracking.journal import Run
from cotejo.tracking.outbox.sender import Tracker
from cotejo.training.checkpoint import Checkpoints, SavedEpoch
from cotejo.training.fit import Job, fit
from cotejo.training.seeds import SeedTrainings
from damage import damage_byte, damage_half
from declared import declare

SEED = 3


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path / "train-net-1234" / "seed-0", "train-net seed 0")


@pytest.fixture(scope="module")
def split(digits):
    """64 digits to train on, and 40 whose labels mean nothing: the better one learns, the worse one is."""
    (images, labels), val = digits
    return LabelledImages(images[:64], labels[:64]), LabelledImages(
        val.images[:40], np.random.default_rng(0).permutation(val.labels[:40])
    )


def build_saved(epoch):
    """A checkpoint with each kind of value: more than ten arrays of a group, without dimensions, empty, of integers."""
    rng = np.random.default_rng(epoch)
    rows = [{"epoch": number, "loss": 1 / number, "val_loss": 0.1 + 0.2} for number in range(1, epoch + 1)]
    record = {"rows": rows, "callbacks": [{"wait": 0, "best": None}, {}], "has_stopped": True}
    model = [rng.normal(size=(3, number)).astype(np.float32) for number in range(12)]
    optimizer = [np.array(7, np.int64), np.array([2**40, -1]), np.array([np.nan, np.inf], np.float32)]
    return SavedEpoch(epoch, record, {"model": model, "optimizer": optimizer, "best": model[::-1]})


def test_what_is_saved_comes_back(checkpoints):
    saved = build_saved(3)
    checkpoints.save(saved)
    found = Checkpoints(checkpoints.folder, "another process")
    loaded = found.last
    assert loaded.epoch == 3
    assert loaded.record == saved.record
    assert list(loaded.arrays) == ["model", "optimizer", "best"]
    for group, arrays in saved.arrays.items():
        assert len(loaded.arrays[group]) == len(arrays)
        for received, expected in zip(loaded.arrays[group], arrays, strict=True):
            assert (received.dtype, received.shape) == (expected.dtype, expected.shape)
            np.testing.assert_array_equal(received, expected)


def test_where_nothing_was_saved_nothing_is_resumed(checkpoints):
    assert checkpoints.last is None


def test_the_last_two_epochs_stay(checkpoints):
    for epoch in (9, 10, 11, 12):  # as numbers, not as words
        checkpoints.save(build_saved(epoch))
    assert sorted(file.name for file in checkpoints.folder.iterdir()) == ["epoch-00011.ckpt", "epoch-00012.ckpt"]
    assert Checkpoints(checkpoints.folder, "another process").last.epoch == 12


def test_a_checkpoint_of_other_inputs_is_not_resumed_from(checkpoints, capsys):
    checkpoints.save(build_saved(3))
    other = checkpoints.folder.parent.with_name("train-lenet-of-other-inputs") / checkpoints.folder.name
    shutil.copytree(checkpoints.folder, other)
    assert Checkpoints(other, "another study").last is None
    assert "it was made with other inputs" in capsys.readouterr().err


# each random layer, callback with a state and optimizer in at least one of them
ADAM = {"optimizer": {"name": "adam"}, "schedule": {"name": "cosine", "warmup_epochs": 1}}
CASES = {
    "adam, cosine, dropout": (ADAM, {"dropout_rate": 0.3}, {}),
    "adamw, augmentation": (
        {
            "optimizer": {"name": "adamw", "weight_decay": 0.01},
            "augmentation": {"horizontal_flip": True, "rotation": 10.0, "translation": 0.1, "erasing": 0.5},
        },
        {},
        {},
    ),
    "sgd with momentum, plateau": (
        {
            "epochs": 4,
            "learning_rate": 0.5,
            "optimizer": {"name": "sgd", "momentum": 0.9},
            "schedule": {"name": "plateau", "interval_epochs": 2},
        },
        {},
        {},
    ),
    "rmsprop, last epoch kept": (
        {"optimizer": {"name": "rmsprop", "momentum": 0.5}, "early_stopping": {"restore_best": False}},
        {},
        {},
    ),
    "nadam, early stopping": (
        {"epochs": 9, "learning_rate": 0.05, "optimizer": {"name": "nadam"}, "early_stopping": {"patience": 2}},
        {},
        {},
    ),
    "bfloat16": (ADAM, {"dropout_rate": 0.3}, {"precision": "mixed_bfloat16"}),
    "side by side": (ADAM, {"dropout_rate": 0.3, "l2": 0.01}, {"num_parts": 2}),
}

#: The epoch after which `make test` resumes a case; `make test-all` resumes each case after every epoch.
RESUMED = {
    "adam, cosine, dropout": 2, "sgd with momentum, plateau": 3, "nadam, early stopping": 1, "side by side": 1,
}  # fmt: skip


@pytest.fixture
def declared(request, hardware):
    """A case: settings, options of the net, and what to train on, the precision being in force."""
    changes, net, machine = CASES[request.param]
    settings = declare("lenet", **{"epochs": 3, "batch_size": 25, "learning_rate": 0.01, **changes})
    told = hardware._replace(**machine)
    keras.config.set_dtype_policy(told.precision)
    yield settings, net, told
    keras.config.set_dtype_policy("float32")


def check_case(name, settings, history, best_epoch):
    """Whatever the case is there for has happened."""
    if "early stopping" in name:
        assert best_epoch == len(history) - 2 < settings.epochs - 2
    elif "plateau" in name:
        assert history["learning_rate"].to_list() == pytest.approx([0.5, 0.5, 0.5, 0.25])
    elif "last epoch" in name:
        assert history["val_loss"].argmin() + 1 < best_epoch == 3
    elif "cosine" in name:
        assert history["learning_rate"].nunique() == 3


def check_resumed(name, declared, split, build_dense, tmp_path, epochs=None):
    """Trains once without a stop, and once resumed after each of these epochs, or after any: the ends are the same."""
    settings, net, hardware = declared

    def train(root, on_epoch):
        places = Checkpoints(root / "train-net" / "seed-3", "net")
        model = build_dense(**net)
        result = fit(Job.of(model, *split), settings, SEED, "net", on_epoch, hardware, places)
        return result, model.get_weights(), places.last

    # the disk as a kill after each epoch would leave it
    whole, expected, _ = train(
        tmp_path / "whole", lambda row: shutil.copytree(tmp_path / "whole", tmp_path / str(row["epoch"]))
    )
    num_epochs = len(whole.history)
    check_case(name, settings, whole.history, whole.best_epoch)
    for epoch in epochs or range(1, num_epochs + 1):
        seen = []
        result, received, saved = train(tmp_path / str(epoch), lambda row, seen=seen: seen.append(row["epoch"]))
        assert saved.epoch == epoch
        assert seen == list(range(epoch + 1, num_epochs + 1))
        pd.testing.assert_frame_equal(result.history, whole.history, check_exact=True)
        assert result.best_epoch == whole.best_epoch
        assert len(result.times) == num_epochs
        for left, right in zip(received, expected, strict=True):
            np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize(("declared", "epoch"), RESUMED.items(), ids=list(RESUMED), indirect=["declared"])
def test_a_training_that_is_resumed_ends_as_if_it_had_never_stopped(
    declared, epoch, split, build_dense, tmp_path, request
):
    check_resumed(request.node.callspec.id, declared, split, build_dense, tmp_path, [epoch])


@pytest.mark.slow
@pytest.mark.parametrize("declared", CASES, indirect=True)
def test_a_training_that_is_resumed_after_any_epoch_ends_as_if_it_had_never_stopped(
    declared, split, build_dense, tmp_path, request
):
    check_resumed(request.node.callspec.id, declared, split, build_dense, tmp_path)


def test_a_training_that_had_ended_is_not_trained_again(split, build_dense, hardware, tmp_path):
    settings = declare("lenet", epochs=1, batch_size=32)
    seen = []

    def train():
        places = Checkpoints(tmp_path / "train-net" / "seed-3", "net")
        model = build_dense()
        fit(Job.of(model, *split), settings, SEED, "net", lambda row: seen.append(row["epoch"]), hardware, places)
        return model.get_weights()

    first, again = train(), train()
    assert seen == [1]
    for left, right in zip(first, again, strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("damage", [damage_half, damage_byte])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_loaded(checkpoints, capsys, damage):
    for epoch in (1, 2):
        checkpoints.save(build_saved(epoch))
    file = checkpoints.folder / "epoch-00002.ckpt"
    damage(file)
    assert Checkpoints(checkpoints.folder, "train-net seed 0").last.epoch == 1
    assert capsys.readouterr().err == (
        f"train-net seed 0: {file} can't be resumed from (it is damaged: its checksum is another); "
        "trying the one before.\n"
    )


def test_an_epoch_that_is_trained_again_since_its_checkpoint_was_lost_is_tracked_once(
    split, build_dense, hardware, tmp_path, capsys
):
    settings = declare("lenet", epochs=3, batch_size=32, learning_rate=0.01)

    class Stopping(Tracker):
        def send(self, journal):
            if journal.read_text().count('"val_loss":') == 2:
                raise KeyboardInterrupt

    def train(folder, kind):
        folder.mkdir()
        run = Run(kind(tmp_path / "journal", lambda _: None), "train-net", None, {})
        trainings = SeedTrainings("lenet", settings, [SEED], run, tmp_path / "checkpoints", folder)
        trainings.train_here(lambda _: Job.of(build_dense(), *split), hardware)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped", Stopping)
    (tmp_path / f"checkpoints/seed-{SEED}/epoch-00002.ckpt").unlink()
    train(tmp_path / "models", Tracker)
    assert "train-net seed 3 resumed from epoch 2: loaded the checkpoint of epoch 1" in capsys.readouterr().err

    journals = [file.read_text().splitlines() for file in (tmp_path / "journal").iterdir()]
    (records,) = [[json.loads(line) for line in lines] for lines in journals if "seed 3" in lines[0]]
    kinds = [record["kind"] for record in records if record["kind"] != "metrics"]
    assert kinds == ["start", "params", "end", "adopt", "resume", "params", "end"]
    assert [record["step"] for record in records if "val_loss" in record.get("values", {})] == [1, 2, 3]


FULL_DISK = """
    import resource
    from pathlib import Path
    import keras
    import numpy as np
    import tensorflow as tf
    from cotejo.data.readers import LabelledImages
    from cotejo.training.checkpoint import Checkpoints
    from cotejo.training.fit import Job, fit
    from cotejo.training.hardware import Hardware
    from declared import declare

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    rng = np.random.default_rng(0)
    split = LabelledImages(rng.integers(0, 256, (64, 8, 8, 1), dtype=np.uint8), np.arange(64) % 10)
    images = keras.Input((8, 8, 1), dtype="uint8")
    model = keras.Model(images, keras.layers.Dense(10, "softmax")(keras.layers.Flatten()(images)))
    places = Checkpoints(Path("net/seed-0"), "net")
    loadable = []

    def on_epoch(row):
        loadable.append(Checkpoints(places.folder, "net").last.epoch)
        # a file may have so many bytes: part of a checkpoint can be written
        limits = {2: 2000, 4: soft}
        if row["epoch"] in limits:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limits[row["epoch"]], hard))

    hardware = Hardware("CPU", 2, 1, "float32", tf.distribute.get_strategy())
    fit(Job.of(model, split, split), declare("lenet", epochs=5), 0, "net", on_epoch, hardware, places)
    print(loadable, sorted(file.name for file in places.folder.iterdir()))
"""


def test_on_a_full_disk_training_continues_with_a_warning_and_the_last_checkpoint_serves(tmp_path, run_script):
    stdout, stderr = run_script(textwrap.dedent(FULL_DISK), cwd=tmp_path)
    # epochs 3 and 4 aren't saved; when there is room again, 5 is
    assert stdout == "[1, 2, 2, 2, 5] ['epoch-00002.ckpt', 'epoch-00005.ckpt']\n"
    complaints = [line for line in stderr.splitlines() if "File too large" in line]
    assert [line.split(" Received")[0] for line in complaints] == [
        f"net: expected to write the checkpoint of epoch {epoch} to {Path('net/seed-0')}/epoch-{epoch:05}.ckpt."
        for epoch in (3, 4)
    ]
    assert "Traceback" not in stderr
    assert "Exception ignored" not in stderr
