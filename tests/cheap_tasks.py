"""Tasks for tests of the executor: seconds, and no TensorFlow."""

import os
import signal
import time
from pathlib import Path

import numpy as np

from cotejo.data.readers import LabelledImages
from cotejo.data.splits import load_dataset
from cotejo.execution.messages import PreparedData
from saved_splits import save_splits


def prepare_data(folder):
    """Writes a data set of 40 images that no other test has."""
    folder.mkdir(parents=True, exist_ok=True)
    images = np.arange(40 * 4, dtype=np.uint8).reshape(40, 2, 2, 1)
    split = LabelledImages(images, np.arange(40) % 2)
    save_splits(dict.fromkeys(("train", "val", "test"), split), folder, "cheap", ("a", "b"), {})
    return PreparedData(str(folder), load_dataset(folder).digest)


def add(task, loaded, report):
    """Adds the task's number to the images' sum; says first how far it is."""
    for step in range(3):
        report({"step": step})
    return task + int(loaded.train.images.sum())


def tell_process(_task, _loaded, _report):
    """Tells in which process it runs."""
    time.sleep(0.2)
    return os.getpid()


def sleep(task, _loaded, report):
    """Takes as many seconds as the task says, and notes in the folder who does."""
    seconds, folder = task
    (Path(folder) / f"{os.getpid()}-{os.getppid()}-{time.time_ns()}").touch()
    report({"begun": 1})
    time.sleep(seconds)
    return seconds


def die(task, _loaded, _report):
    """Dies as many times as the task says, as a process does that takes too much memory."""
    times, folder = task
    before = len(list(Path(folder).glob("death-*")))
    if before < times:
        (Path(folder) / f"death-{before}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "lived"


def grow(task, _loaded, _report):
    """Keeps as many bytes as the task says."""
    grown.append(np.ones(task, np.uint8))
    return os.getpid()


grown = []


def fail(_task, _loaded, _report):
    """Has a fault of ours."""
    raise ZeroDivisionError("the task's own")
