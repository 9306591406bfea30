"""How long a model takes to answer: what is timed, what isn't, and what is written down."""

import json
import os
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from cotejo.errors import ModelError
from cotejo.evaluation import latency as module
from cotejo.evaluation.latency import measure_latencies, measure_latency, save_latencies
from cotejo.training.archive import save_model
from cotejo.training.hardware import Hardware
from declared import declare

IMAGES = np.random.default_rng(0).integers(0, 256, (50, 16, 16, 1), dtype=np.uint8)
SETTINGS = declare("evaluate", batch_size=8, latency_rounds=5)


def build_model(num_convolutions=1, filters=4):
    images = keras.Input((16, 16, 1), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(images)
    for _ in range(num_convolutions):
        x = keras.layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
    return keras.Model(images, keras.layers.Dense(10, activation="softmax")(keras.layers.Flatten()(x)))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A model, and one whose way through is forty times as long."""
    root = tmp_path_factory.mktemp("models")
    for name, model in {"small": build_model(), "large": build_model(20, 32)}.items():
        (root / name / "seed-3").mkdir(parents=True)
        save_model(model, root / name / "seed-3" / "model.keras")
    return {name: root / name for name in ("small", "large")}


def test_a_larger_model_answers_later_and_does_fewer_images(folders):
    measured = measure_latencies(folders, 3, IMAGES, declare("evaluate", batch_size=32, latency_rounds=40))
    small, large = measured["small"], measured["large"]
    assert list(measured) == list(folders)
    assert large.latency_p50_s > 1.2 * small.latency_p50_s
    assert large.throughput_images_per_s < small.throughput_images_per_s / 2
    for latency in measured.values():
        assert 0 < latency.latency_p50_s <= latency.latency_p95_s
        assert (latency.batch_size, latency.num_timed) == (32, 40)


def test_a_batch_holds_no_more_images_than_there_are():
    assert measure_latency(build_model(), IMAGES, 256, 3).batch_size == 50


def test_no_graph_is_built_while_the_clock_runs(monkeypatch):
    """Keras answers the first image, and the first batch of another size, after building a graph for it."""
    model, asked, traces = build_model(), [], []
    ask = module.predict_probabilities

    def watch(asked_model, images, batch_size):
        answer = ask(asked_model, images, batch_size)
        asked.append(len(images))
        traces.append(model.predict_function.experimental_get_tracing_count())
        return answer

    monkeypatch.setattr(module, "predict_probabilities", watch)
    measure_latency(model, IMAGES, 32, 20)
    num_single, num_batches = asked.count(1), asked.count(32)
    assert asked == [1] * num_single + [32] * num_batches
    # graphs were built, and long before the 20 answers for an image and the 2 for a batch that are timed last
    assert traces[0] >= 1
    assert len(set(traces[num_single - 20 - 2 : num_single])) == 1
    assert len(set(traces[-2 - 2 :])) == 1
    assert num_single > 20 + 2 < num_batches + 20


def test_the_median_and_the_nineteenth_of_twenty_are_taken(monkeypatch):
    # of the answers for an image, half take at most 49.5 ms, and 95 in a hundred at most 94.05 ms
    durations_s = [*(number / 1000 for number in range(100)), 9.0, *[1.0] * 8, 9.0]
    ticks = iter([tick for duration_s in durations_s for tick in (0.0, duration_s)])
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    measured = measure_latency(build_model(), IMAGES, 32, 100)
    assert measured.latency_p50_s == pytest.approx(0.0495, abs=1e-6)
    assert measured.latency_p95_s == pytest.approx(0.09405, abs=1e-6)
    assert measured.throughput_images_per_s == 32  # a batch takes a second as a rule
    assert measured.num_timed == 100
    assert next(ticks, None) is None


def test_what_is_written_down_says_on_what_it_was_measured(folders, tmp_path):
    measured = measure_latencies({"small": folders["small"]}, 3, IMAGES, SETTINGS)
    hardware = Hardware("CPU", 2, 1, "float32", tf.distribute.get_strategy())
    save_latencies(measured, hardware, tmp_path / "evaluate.json")
    written = json.loads((tmp_path / "evaluate.json").read_text())
    assert list(written) == ["machine", "device", "threads", "per_model"]
    assert written["machine"].endswith(f", {os.cpu_count()} cores")
    assert (written["device"], written["threads"]) == ("CPU", 2)
    assert written["per_model"] == {"small": measured["small"].model_dump()}
    keys = ["latency_p50_s", "latency_p95_s", "throughput_images_per_s", "batch_size", "num_timed"]
    assert list(written["per_model"]["small"]) == keys


def test_a_seed_that_was_not_trained_is_refused(folders):
    with pytest.raises(ModelError, match=r"seed-4/model\.keras: expected a model saved by this study"):
        measure_latencies(folders, 4, IMAGES, SETTINGS)
