"""Goes on from transfer-learn's models: the top layers unfrozen, a low learning rate."""

from functools import partial
from pathlib import Path

import _source  # noqa: F401
from cotejo.data.splits import load_training_data
from cotejo.execution.words import Data, Setup
from cotejo.report.figures.augmentation import log_augmented
from cotejo.stage import STATE_FOLDER, Stage, run_stage
from cotejo.training.finetuning import prepare_finetune
from cotejo.training.seeds import log_trained, save_timings, spread_seeds

DATA = Path("data/processed")
START = Path("models/transfer")
MODELS = "models/finetune"


def finetune(stage: Stage) -> None:
    """Writes models/finetune/ and reports/timings/finetune.json."""
    settings, runtime = stage.params.finetune, stage.params.runtime.at_home
    base = stage.params.base
    setup = Setup.of(base, side_by_side=True)  # batch normalisation is held in inference mode
    build = partial(prepare_finetune, settings, START.resolve())
    dataset, train_split, _ = load_training_data(DATA)
    data = Data.of(DATA, dataset.digest)
    stage.run.log_dataset(dataset.name, dataset.digest, DATA)
    with stage.checkpoint(dataset.digest, *sorted(START.rglob("model.keras"))) as checkpoints:
        with stage.outputs(MODELS, "reports/timings/finetune.json") as (folder, timings):
            trained = spread_seeds(build, settings, setup, base.seeds, stage.run, checkpoints, folder, data, runtime)
            save_timings(trained, stage.name, timings)
        # after the training, which has to tell TensorFlow its threads before anything else uses it
        log_augmented(stage.run, settings.augmentation, train_split, dataset.class_names, STATE_FOLDER / "figures")
        log_trained(trained, Path(MODELS))


if __name__ == "__main__":
    run_stage(finetune, "finetune", sections=("base", "finetune"))
