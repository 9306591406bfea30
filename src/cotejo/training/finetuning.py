"""Prepares trained networks for fine-tuning."""

from pathlib import Path

from cotejo.data.splits import TrainingData
from cotejo.models.backbones import unfreeze
from cotejo.schema.trainings import Finetune
from cotejo.training.archive import load_model
from cotejo.training.fit import Job, Prepare
from cotejo.training.hardware import Hardware


def prepare_finetune(settings: Finetune, start: Path, data: TrainingData, _: Hardware) -> Prepare:
    """Returns a function that loads the model of a seed and unfreezes its top layers.

    Args:
        settings: The `finetune` section.
        start: The folder of the models to start from.
        data: The images.

    Raises:
        ModelError: A seed's model is missing or damaged, or hasn't the layers to unfreeze.
    """

    def prepare(seed: int) -> Job:
        model = unfreeze(load_model(start / f"seed-{seed}/model.keras"), settings.unfreeze)
        return Job.of(model, data.train, data.val)

    return prepare
