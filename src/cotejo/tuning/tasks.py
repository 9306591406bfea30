"""Tasks for a worker. Imports no TensorFlow, which the driver doesn't need."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from optuna.trial import FrozenTrial

from cotejo.data.splits import TrainingData
from cotejo.execution.messages import Setup
from cotejo.schema.searches import Search
from cotejo.schema.trainings import Net
from cotejo.tuning.outcome import Outcome


class TrialTask(NamedTuple):
    """A training of the search.

    Attributes:
        name: The trial, in messages and in MLflow.
        number: The trial's number.
        search: The `search` section.
        present: The model's section.
        values: What the trial changes in it.
        seed: Seed of the training.
        max_epochs: The most epochs that a trial can have.
        known: The trials that a pruner may look at; None where nothing is pruned.
        folder: Where its checkpoints are kept, on machines that have it.
        setup: What the process has to be configured for.
        confirms: Whether the training confirms the winner: then it is scored on the images that confirm. A trial isn't.
    """

    name: str
    number: int
    search: Search
    present: Net
    values: dict[str, Any]
    seed: int
    max_epochs: int
    known: Sequence[FrozenTrial] | None
    folder: str
    setup: Setup
    confirms: bool = False


def run_trial(task: TrialTask, loaded: TrainingData, report: Callable[[Any], None]) -> Outcome:
    """Runs a trial, on a worker."""
    from cotejo.tuning.trial import train_trial  # imports TensorFlow, which takes seconds and 800 MB

    return train_trial(task, loaded, report)
