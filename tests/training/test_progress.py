"""What a person sees while a model trains: a live bar on a terminal, plain lines anywhere else."""

import re

import pytest

from terminal import hide_terminal_variables, watch_process

#: The named trainings; one whose name says so ends in its second epoch, as a pruned trial does.
TRAIN = """
import sys
import time
import keras
import numpy as np
import tensorflow as tf
from cotejo.data.readers import LabelledImages
from cotejo.training.fit import Job, fit
from cotejo.training.hardware import Hardware
from declared import declare

rng = np.random.default_rng(0)
split = LabelledImages(rng.integers(0, 256, (64, 8, 8, 1), dtype=np.uint8), np.arange(64) % 10)
images = keras.Input((8, 8, 1), dtype="uint8")
x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(images))
model = keras.Model(images, keras.layers.Dense(10, activation="softmax")(x))
hardware = Hardware("CPU", 2, 1, "float32", tf.distribute.get_strategy())

def on_epoch(row):
    time.sleep(0.2)  # the bar is drawn ten times a second
    if row["epoch"] == 2 and name.startswith("pruned"):
        raise StopIteration

print("begins", file=sys.stderr, flush=True)
for name in sys.argv[1:]:
    try:
        fit(Job.of(model, split, split), declare("lenet", epochs=3, batch_size=1), 0, name, on_epoch, hardware)
    except StopIteration:
        print(f"{name} has ended", file=sys.stderr, flush=True)
print("ends", file=sys.stderr, flush=True)
"""
METRICS = "  ".join(rf"{name} \d\.\d{{4}}" for name in ("accuracy", "loss", "val_accuracy", "val_loss"))


@pytest.fixture
def watch_trainings(environment, start_script, tmp_path):
    """Returns a function that returns what a terminal of so many columns shows of the named trainings."""

    def watch(columns, *names):
        own = hide_terminal_variables(environment)

        def start(log):
            return start_script(TRAIN, *names, cwd=tmp_path, env=own, log=log)

        return watch_process(start, columns)

    return watch


def list_epochs(name, count=3):
    return [rf"{name}  epoch {epoch}/3  {METRICS}" for epoch in range(1, count + 1)]


def check_lines(lines, patterns):
    assert len(lines) == len(patterns), lines
    for line, pattern in zip(lines, patterns, strict=True):
        assert re.fullmatch(pattern, line), line


def test_a_terminal_shows_epoch_time_left_and_loss_and_keeps_the_epochs(watch_trainings):
    name = "train-lenet seed 0"
    screen = watch_trainings(80, name)  # as wide as most are when they are opened
    bar = re.compile(rf"{name}  epoch (\d)/3 [━╸╺ ]+(\d+)/192 (-:--:--|\d:\d\d:\d\d) loss \d\.\d{{4}}")
    shown = [bar.fullmatch(state) for state in screen.states]
    seen = [(int(match[1]), int(match[2]), match[3]) for match in shown if match]
    # steps are those of the whole training
    assert {(epoch, step) for epoch, step, _ in seen} >= {(1, 64), (2, 128), (3, 192)}
    assert any(time_left != "-:--:--" for _, _, time_left in seen)
    # an epoch's line is longer than this terminal is wide
    text = " ".join(" ".join(screen.lines).split())
    check_lines([text], [" ".join([*list_epochs(name), "ends"]).replace("  ", " ")])
    assert screen.shows_cursor


def test_a_training_that_is_ended_leaves_no_bar_behind_and_the_next_has_its_own(watch_trainings):
    screen = watch_trainings(120, "pruned trial", "next trial")
    expected = [*list_epochs("pruned trial", 1), "pruned trial has ended", *list_epochs("next trial"), "ends", ""]
    check_lines(screen.lines, expected)
    assert screen.shows_cursor


def test_elsewhere_each_epoch_is_a_plain_line(run_script, tmp_path):
    _, stderr = run_script(TRAIN, "train-lenet seed 0", cwd=tmp_path)
    _, _, rest = stderr.partition("begins\n")
    check_lines(rest.split("\n"), [*list_epochs("train-lenet seed 0"), "ends", ""])
