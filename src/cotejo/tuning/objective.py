"""What a trial does: train with the proposed values, and stop early where the pruner says so."""

from collections.abc import Callable

import optuna

from cotejo.params import override_group
from cotejo.schema import Net, Search
from cotejo.tracking.journal import Run
from cotejo.training.callbacks import Logs
from cotejo.training.fit import Job, fit
from cotejo.training.hardware import Hardware, start_afresh
from cotejo.tuning.study import Objective


def build_objective(
    prepare: Callable[[Net], Job], present: Net, search: Search, hardware: Hardware, run: Run
) -> Objective:
    """Returns the objective: the validation accuracy of the epoch that is kept.

    Args:
        prepare: Builds a job from the settings of a trial.
        present: The model's section of `params.yaml`; what isn't searched stays as declared.
        search: The `search` section.
        hardware: What to train on.
        run: The stage's run; each trial gets a run below it.
    """

    def objective(trial: optuna.Trial, values: dict[str, object]) -> float:
        settings = override_group(present, values, "search.space")
        start_afresh(search.seed, hardware)
        with run.start_child(f"trial {trial.number}", not_failures=(optuna.TrialPruned,)) as child:
            child.log_params(values)

            def report(logs: Logs) -> None:
                epoch = int(logs["epoch"])
                child.log_epoch(logs)
                child.flush()
                trial.report(logs["val_accuracy"], epoch)
                # the last epoch has nothing left to save
                if epoch < settings.epochs and trial.should_prune():
                    child.log_tags({"trial_state": "PRUNED"})
                    raise optuna.TrialPruned

            with hardware.strategy.scope():
                job = prepare(settings)
            result = fit(job, settings, search.seed, child.name, report, hardware)
            value = float(result.history["val_accuracy"].iloc[result.best_epoch - 1])
            child.log_metrics({"value": value})
        print(f"trial {trial.number}: {value:.4f} with {values}", flush=True)
        return value

    return objective
