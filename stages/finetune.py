"""Goes on from transfer-learn's models: the top layers unfrozen, a low learning rate."""

from pathlib import Path

import _source  # noqa: F401
from cotejo.data.splits import load_dataset, load_split
from cotejo.models.backbones import unfreeze
from cotejo.report.figures.augmentation import log_augmented
from cotejo.stage import STATE_FOLDER, Stage, run_stage
from cotejo.training.archive import load_model
from cotejo.training.fit import Job
from cotejo.training.hardware import configure_hardware
from cotejo.training.seeds import log_trained, save_timings, train_seeds

DATA = Path("data/processed")
START = Path("models/transfer")
MODELS = "models/finetune"


def finetune(stage: Stage) -> None:
    """Writes models/finetune/ and reports/timings/finetune.json."""
    base, settings = stage.params.base, stage.params.finetune
    hardware = configure_hardware(base, side_by_side=True)  # batch normalisation is held in inference mode
    dataset, train_split, val_split = load_dataset(DATA), load_split(DATA, "train"), load_split(DATA, "val")

    def prepare(seed: int) -> Job:
        model = unfreeze(load_model(START / f"seed-{seed}/model.keras"), settings.unfreeze)
        return Job.of(model, train_split, val_split)

    stage.run.log_dataset(dataset.name, dataset.digest, DATA)
    log_augmented(stage.run, settings.augmentation, train_split, dataset.class_names, STATE_FOLDER / "figures")
    with stage.checkpoint(dataset.digest, *sorted(START.rglob("model.keras"))) as checkpoints:
        with stage.outputs(MODELS, "reports/timings/finetune.json") as (folder, timings):
            trained = train_seeds(prepare, settings, base.seeds, hardware, stage.run, checkpoints, folder)
            save_timings(trained, stage.name, hardware, timings)
        log_trained(trained, Path(MODELS))


if __name__ == "__main__":
    run_stage(finetune, "finetune", sections=("base", "finetune"))
