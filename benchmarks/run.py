"""Measures training speed against plain Keras on this machine, and writes docs/benchmarks.md: make bench.

Every measurement is a process of its own. The two opponents take turns, so that whatever else the machine does hits
both; the medians of the rounds are compared.
"""

import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np

ROUNDS = 3
EPOCHS = 3
NUM_SAMPLES = {"lenet": 25_600, "resnet": 6_400}
PAGE = Path("docs/benchmarks.md")


def main() -> None:
    """Runs one measurement if it is named, else all of them."""
    if len(sys.argv) == 3:
        print(json.dumps(measure(sys.argv[1], sys.argv[2])))
        return
    rows = [compare(net) for net in NUM_SAMPLES]
    PAGE.write_text(render(rows), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))


def compare(net: str) -> dict[str, float | str]:
    """Lets Cotejo and plain Keras take turns, and returns medians and their ratio."""
    results: dict[str, list[dict[str, float]]] = {"keras": [], "cotejo": []}
    for number in range(ROUNDS):
        for opponent, measured in results.items():
            command = [sys.executable, __file__, net, opponent]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            measured.append(json.loads(done.stdout.splitlines()[-1]))
            print(f"{net} {opponent} round {number + 1}: {measured[-1]['images_per_s']:.0f} images/s", file=sys.stderr)
    speed = {name: median(row["images_per_s"] for row in rows) for name, rows in results.items()}
    memory = {name: median(row["peak_memory_bytes"] for row in rows) / 1e6 for name, rows in results.items()}
    ratios = sorted(
        ours["images_per_s"] / theirs["images_per_s"]
        for ours, theirs in zip(results["cotejo"], results["keras"], strict=True)
    )
    return {
        "net": net, "keras": speed["keras"], "cotejo": speed["cotejo"], "ratio": median(ratios), "low": ratios[0],
        "high": ratios[-1], "keras_mb": memory["keras"], "cotejo_mb": memory["cotejo"],
    }  # fmt: skip


def measure(net: str, opponent: str) -> dict[str, float]:
    """Trains a net on generated images and returns the images per second of the fastest epoch but the first."""
    from importlib import import_module

    import keras

    from cotejo.data.readers import LabelledImages
    from cotejo.params import load_params
    from cotejo.training.fit import configure_tensorflow, measure_peak_memory

    params = load_params(["base", net])
    if opponent == "cotejo":  # a notebook asks for neither threads nor determinism
        configure_tensorflow(params.base.threads)
    keras.utils.set_random_seed(0)
    settings = getattr(params, net).model_copy(update={"epochs": EPOCHS})
    model = import_module(f"cotejo.models.{net}").build_model(settings, (28, 28, 1), 10)
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (NUM_SAMPLES[net], 28, 28, 1), np.uint8)
    split = LabelledImages(images, generator.integers(0, 10, NUM_SAMPLES[net]))
    fit = {"keras": fit_plain_keras, "cotejo": fit_cotejo}[opponent]
    times_s = fit(model, split, settings)
    return {"images_per_s": NUM_SAMPLES[net] / min(times_s[1:]), "peak_memory_bytes": measure_peak_memory()}


def fit_cotejo(model, split, settings) -> list[float]:  # noqa: ANN001 - Keras is imported late, for the clock
    """Trains as the study does; one image of validation, since the opponent has none."""
    from cotejo.data.readers import LabelledImages
    from cotejo.training.fit import Job, fit

    val = LabelledImages(split.images[:1], split.labels[:1])
    return fit(Job(model, model, split, val), settings, 0, "benchmark", lambda *_: None).epoch_times_s


def fit_plain_keras(model, split, settings) -> list[float]:  # noqa: ANN001
    """Trains as a notebook does: `fit` on float arrays, scaled before."""
    import keras

    times_s: list[float] = []

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            self.began_s = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: object = None) -> None:
            times_s.append(time.perf_counter() - self.began_s)

    # the same net from floats of 0 to 1: what follows the scaling layer
    scaled = keras.Input((28, 28, 1))
    x = scaled
    plain = keras.models.clone_model(
        model, clone_function=lambda layer: keras.layers.Identity() if layer.name == "scale" else layer,
        input_tensors=x,
    )  # fmt: skip
    plain.compile(optimizer=settings.optimizer.name, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    images = split.images.astype("float32") / 255
    plain.fit(images, split.labels, batch_size=settings.batch_size, epochs=settings.epochs, verbose=0,
              callbacks=[Clock()])  # fmt: skip
    return times_s


def render(rows: list[dict[str, float | str]]) -> str:
    """Writes the page."""
    table = "\n".join(
        f"| {row['net']} | {row['keras']:,.0f} | {row['cotejo']:,.0f} | {row['ratio']:.2f} | {row['low']:.2f} to "
        f"{row['high']:.2f} | {row['keras_mb']:,.0f} | {row['cotejo_mb']:,.0f} |"
        for row in rows
    )
    return f"""# Benchmarks

`make bench` measures these and writes this page. Training speed of `resnet_small` and `lenet5` at the batch sizes of
`params.yaml`, against `model.fit` on float arrays, as a notebook does it (no determinism asked for). Each
measurement is a process of its own; the two take turns; medians of {ROUNDS} rounds, of each the fastest epoch but the
first.

Machine: {platform.machine()}, {platform.system()}, Python {platform.python_version()}.

| net | Keras `fit`, images/s | Cotejo, images/s | ratio | over the rounds | Keras, peak MB | Cotejo, peak MB |
|---|--:|--:|--:|--:|--:|--:|
{table}
"""


if __name__ == "__main__":
    main()
