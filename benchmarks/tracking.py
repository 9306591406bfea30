"""Measures what tracking costs a LeNet run: python benchmarks/tracking.py [--quick].

The same training in turns with `runtime.tracking` on and off, each in a process of its own: curves, parameters and the
model's history to a SQLite database, as a training stage does it. The clock runs from the run's start to when nothing
is waited for any more.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
from images import draw_images
from results import compute_median, compute_ratio, take_total_time
from run import Opponent, take_turns
from with_cotejo import build_net

from cotejo.data.readers import LabelledImages
from cotejo.params import load_params
from cotejo.tracking.journal import Run
from cotejo.tracking.mlflow_client import Delivery
from cotejo.tracking.sender import Tracker
from cotejo.training.checkpoint import Checkpoints
from cotejo.training.fit import Job, fit
from cotejo.training.hardware import configure_hardware

ROUNDS, NUM_SAMPLES, EPOCHS = 5, 54_000, 10
#: Makes the database in another process: in a study it is there, and MLflow isn't imported.
PREPARE = (
    "import sys; from pathlib import Path; from cotejo.tracking.mlflow_client import Delivery; "
    "root = Path(sys.argv[1]); Delivery(root, root, 60).experiment_id"
)


def main() -> None:
    """Measures and prints the medians and their ratio."""
    is_quick = sys.argv[1:] == ["--quick"]
    sizes = {"num_samples": 1_280, "epochs": 2} if is_quick else {"num_samples": NUM_SAMPLES, "epochs": EPOCHS}
    opponents = {name: Opponent("tracking", "train", {**sizes, "is_tracked": name == "on"}) for name in ("off", "on")}
    contest = take_turns(opponents, 1 if is_quick else ROUNDS)
    off_s, on_s = (compute_median(contest[name], take_total_time) for name in ("off", "on"))
    ratio = compute_ratio(contest, "off", "on", take_total_time)
    print(f"{sizes['epochs']} epochs of {sizes['num_samples']} images: off {off_s:.2f} s, on {on_s:.2f} s")
    if ratio:
        print(f"on / off: {ratio.median:.4f}, from {ratio.low:.4f} to {ratio.high:.4f} in {len(contest['on'])} rounds")


def train(num_samples: int, epochs: int, *, is_tracked: bool) -> dict[str, Any]:
    """Trains LeNet for some epochs, tracked or not; returns the seconds in all."""
    params = load_params(["base", "lenet"])
    settings = params.lenet.model_copy(update={"epochs": epochs})
    hardware = configure_hardware(params.base, side_by_side=True)
    keras.utils.set_random_seed(0)
    split, val = LabelledImages(*draw_images(num_samples)), LabelledImages(*draw_images(num_samples // 10))
    job = Job.of(build_net(settings), split, val)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        subprocess.run([sys.executable, "-c", PREPARE, str(root)], check=True)
        began_s = time.perf_counter()
        tracker = Tracker(root / "journal", Delivery(root, root, 5) if is_tracked else None)
        run = Run(tracker, "train-lenet", None, {})
        run.log_params(params.flatten())
        run.flush()

        def report(row: dict[str, Any]) -> None:
            run.log_epoch(row)
            run.flush()

        fit(job, settings, 0, "lenet", report, hardware, Checkpoints(root / "seed-0", "lenet"))
        run.finish("FINISHED")
        tracker.close(60)
        return {"total_time_s": time.perf_counter() - began_s}


if __name__ == "__main__":
    main()
