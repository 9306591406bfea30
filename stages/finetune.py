"""Goes on from transfer-learn's models: the top layers unfrozen, a low learning rate."""

from pathlib import Path

import _source  # noqa: F401
from cotejo.data.splits import load_dataset, load_split
from cotejo.models.backbones import unfreeze
from cotejo.stage import Stage, run_stage
from cotejo.training.archive import load_model
from cotejo.training.fit import Job, configure_tensorflow, log_trained, save_timings, train_seeds

DATA = Path("data/processed")
START = Path("models/transfer")
MODELS = "models/finetune"
TIMINGS = "reports/timings/finetune.json"


def finetune(stage: Stage) -> None:
    """Writes models/finetune/ and reports/timings/finetune.json."""
    base, settings = stage.params.base, stage.params.finetune
    configure_tensorflow(base.threads)
    dataset = load_dataset(DATA)
    train_split, val_split = load_split(DATA, "train"), load_split(DATA, "val")

    def prepare(seed: int) -> Job:
        model = load_model(START / f"seed-{seed}" / "model.keras")
        unfreeze(model, settings.unfreeze)
        return Job(model, model, train_split, val_split)

    stage.run.log_dataset(dataset.name, dataset.digest, DATA)
    with stage.outputs(MODELS, TIMINGS) as (folder, timings_file):
        trained = train_seeds(prepare, settings, base.seeds, folder, stage.run)
        save_timings(trained, stage.name, base.threads, timings_file)
    log_trained(trained, Path(MODELS))


if __name__ == "__main__":
    run_stage(finetune, "finetune", sections=("base", "finetune"))
