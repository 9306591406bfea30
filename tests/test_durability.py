"""What must outlive a power failure is on the disk before anybody relies on it."""

import os
from pathlib import Path

import numpy as np
import pytest

from cotejo.tracking.children import Children
from cotejo.tracking.journal import Run
from cotejo.tracking.outbox.sender import Tracker
from cotejo.training.checkpoint import Checkpoints, SavedEpoch
from cotejo.training.features import _save


class Disk:
    """What a power failure would leave: of files and folders what they held when they were last synced.

    Attributes:
        contents: Of files, by their numbers (inodes).
        names: Of folders, by their numbers: the numbers of the files in them, by name.
        renamed: What a file that has been given another name had on the disk at that moment, by the new path.
    """

    def __init__(self):
        self.contents = {}
        self.names = {}
        self.renamed = {}

    def record(self, descriptor):
        """Records what `os.fsync` writes to the disk."""
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.is_dir():
            self.names[path.stat().st_ino] = {inner.name: inner.stat().st_ino for inner in path.iterdir()}
        else:
            self.contents[path.stat().st_ino] = path.read_bytes()

    def read(self, path):
        """Returns the content under a name, None if the name or the content would be lost."""
        names = self.names.get(path.parent.stat().st_ino, {})
        return self.contents.get(names.get(path.name))

    def read_content(self, path):
        """Returns the content of a file whose name may be lost."""
        return self.contents.get(path.stat().st_ino)


@pytest.fixture
def disk(monkeypatch):
    disk, sync, replace = Disk(), os.fsync, Path.replace

    def fsync(descriptor):
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        sync(number)
        disk.record(number)

    def record_and_replace(self, target):
        disk.renamed[Path(target)] = disk.read_content(self)
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", record_and_replace)
    return disk


@pytest.fixture
def run(tmp_path):
    return Run(Tracker(tmp_path / "journal", lambda _: None), "train-lenet", None, {})


def test_a_checkpoint_is_on_the_disk_when_training_continues(disk, tmp_path):
    checkpoints = Checkpoints(tmp_path / "train-lenet-1234" / "seed-0", "train-lenet seed 0")
    for epoch in (1, 2, 3):
        arrays = {"model": [np.full(100, epoch, np.float32)]}
        checkpoints.save(SavedEpoch(epoch, {"rows": [], "callbacks": [], "has_stopped": False}, arrays))
        path = checkpoints.folder / f"epoch-{epoch:05}.ckpt"
        assert disk.renamed[path] == disk.read(path) == path.read_bytes()


def test_what_a_run_has_recorded_is_on_the_disk_after_a_flush(disk, run):
    for step in (1, 2):
        run.log_metrics({"loss": 1 / step}, step=step)
        assert disk.read(run.path) != run.path.read_bytes(), "nobody has asked for it yet"
        run.flush()
        assert disk.read(run.path) == run.path.read_bytes()


def test_the_name_of_a_trainings_run_is_on_the_disk_before_the_training_begins(disk, run, tmp_path):
    Children(run, tmp_path).open("seed 0", {})
    path = tmp_path / "runs.jsonl"
    assert disk.read_content(path) == path.read_bytes()


def test_kept_features_are_on_the_disk_before_they_have_their_name(disk, tmp_path):
    path = tmp_path / "features.npy"
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    _save([rows[:2], rows[2:]], (4, 3), path)
    np.testing.assert_array_equal(np.load(path), rows)
    assert disk.renamed[path] == path.read_bytes()
