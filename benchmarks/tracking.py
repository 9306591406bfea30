"""A LeNet run that is tracked, and the same one that isn't.

Curves, parameters and states go to a SQLite database, as from a training stage. The clock runs from the run's start to
when nothing is waited for any more.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
from images import draw_images
from with_cotejo import build_net

from cotejo.data.readers import LabelledImages
from cotejo.execution.messages import Setup
from cotejo.params import load_params
from cotejo.tracking import lineage
from cotejo.tracking.journal import Run
from cotejo.tracking.mlflow.connection import Names
from cotejo.tracking.mlflow.delivery import Delivery
from cotejo.tracking.outbox.sender import Tracker
from cotejo.training.checkpoint import Checkpoints
from cotejo.training.fit import Job, fit
from cotejo.training.hardware import configure_hardware

#: Makes the database in another process: in a study it is there, and MLflow isn't imported.
PREPARE = (
    "import sys; from pathlib import Path; "
    "from cotejo.tracking.mlflow.connection import Connection, Names; "
    "root = Path(sys.argv[1]); Connection(root, root, 60, Names('cotejo', 'cotejo')).experiment_id"
)


def train(num_samples: int, epochs: int, *, is_tracked: bool) -> dict[str, Any]:
    """Trains LeNet for some epochs, tracked or not; returns the seconds in all."""
    params = load_params(["base", "lenet"])
    settings = params.lenet.model_copy(update={"epochs": epochs})
    hardware = configure_hardware(Setup.of(params.base, split_batch=True))
    keras.utils.set_random_seed(0)
    split, val = LabelledImages(*draw_images(num_samples)), LabelledImages(*draw_images(num_samples // 10))
    job = Job.of(build_net(settings), split, val)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        subprocess.run([sys.executable, "-c", PREPARE, str(root)], check=True)
        began_s = time.perf_counter()
        tracker = Tracker(root / "journal", Delivery(root, root, 5, Names("cotejo", "cotejo")) if is_tracked else None)
        run = Run(tracker, "train-lenet", None, {})
        run.log_params(params.flatten())
        lineage.log_inputs(run, "train-lenet", params.flatten())
        run.flush()

        def report(row: dict[str, Any]) -> None:
            run.log_epoch(row)
            run.flush()

        fit(job, settings, 0, "lenet", report, hardware, Checkpoints(root / "seed-0", "lenet"))
        lineage.log_outs(run, "train-lenet")
        run.finish("FINISHED")
        tracker.close(60)
        return {"total_time_s": time.perf_counter() - began_s}
