"""Notes on a comparison: warnings for its reader, and how its numbers came about."""

from collections.abc import Mapping, Sequence
from typing import Any

from cotejo.comparison.records import Comparison, Finding, Model
from cotejo.estimation.estimates import DECLARED_SHARE


def find_warnings(comparison: Comparison) -> tuple[Finding, ...]:
    """Lists what a reader must know before believing the numbers."""
    models, facts = comparison.models, comparison.facts
    pretrained = [model.name for model in models if model.name in ("transfer", "finetune")]
    timed = [model for model in models if model.train_time_s is not None]
    settings = {(model.device, model.threads) for model in timed}
    machines = {model.machine for model in timed if model.machine is not None}
    untimed = [model.name for model in models if model.train_time_s is None]
    checks = (
        (
            bool(pretrained) and facts["weights"] == "random",
            Finding("warning.random_weights", {"models": pretrained, "backbone": facts["backbone"]}),
        ),
        (len(settings) > 1 or len(machines) > 1, Finding("warning.machines", {})),
        (bool(untimed), Finding("warning.untimed", {"models": untimed})),
        (bool(facts.get("dirty")), Finding("warning.dirty", {})),
    )
    few_seeds = warn_of_few_seeds([(model.name, len(model.seeds)) for model in models])
    return (*few_seeds, *(finding for applies, finding in checks if applies))


def warn_of_few_seeds(trained: Sequence[tuple[str, int]]) -> tuple[Finding, ...]:
    """Warns of models, or revisions, with one seed and of those with two.

    Args:
        trained: Names, each with a number of seeds; a name that comes again is listed once.
    """
    by_key = {
        key: list(dict.fromkeys(name for name, count in trained if count == num_seeds))
        for key, num_seeds in (("warning.single_seed", 1), ("warning.two_seeds", 2))
    }
    return tuple(Finding(key, {"models": names}) for key, names in by_key.items() if names)


def find_notes(comparison: Comparison) -> tuple[Finding, ...]:
    """Lists how the numbers came about."""
    names = [model.name for model in comparison.models]
    keeps_lowest = all(_keeps_lowest_loss(name, comparison.facts["params"]) for name in names)
    is_one_training = comparison.pairs[0].num_seeds == 1
    values = {
        "num_models": len(names),
        "num_pairs": len(comparison.pairs),
        "level": 1 - comparison.confidence,
        "confidence": comparison.confidence,
        "margin": comparison.margin,
        "declared": DECLARED_SHARE,
        "is_one_training": is_one_training,
    }
    notes = [
        Finding("note.kept_lowest_loss" if keeps_lowest else "note.kept_epoch", {}),
        Finding("note.one_training" if is_one_training else "note.interval", values),
        Finding("note.own", {"confidence": comparison.models[0].confidence}),
        *([Finding("note.pairs", values)] if len(names) > 2 else []),
        Finding("note.equivalence", values),
        Finding("note.cost", values),
        Finding("note.detectable", values),
        Finding("note.exploratory", values),
        Finding("note.f1", values),
        Finding("note.calibration", {}),
        Finding("note.robustness", _count_corrupted(comparison)),
        Finding("note.clocks", _describe_clocks(comparison.models)),
    ]
    if "transfer" in names and not _is_augmented("transfer", comparison.facts["params"]):
        notes.append(Finding("note.features", {}))
    if "finetune" in names:
        notes.append(Finding("note.finetune_time", {}))
    return tuple(notes)


def _count_corrupted(comparison: Comparison) -> dict[str, Any]:
    """Counts the test images that were corrupted; the parameter's 0 stands for all."""
    num_images = comparison.dataset["splits"]["test"]["num_samples"]
    num_samples = comparison.facts["params"].get("evaluate.corruption_samples") or num_images
    return {"num_samples": min(num_samples, num_images), "num_images": num_images}


def _describe_clocks(models: Sequence[Model]) -> dict[str, Any]:
    """Lists what the clocks' numbers were measured on, and which models' were measured there."""
    trained = {
        model.name: (model.machine, model.device, model.threads) for model in models if model.train_time_s is not None
    }
    answered = {
        model.name: (clock.machine, clock.device, clock.threads, clock.batch_size, clock.num_timed)
        for model in models
        if (clock := model.answers_clock) is not None
    }
    keys = ("machine", "device", "threads", "batch_size", "num_timed")
    return {
        name: [
            {"models": [model for model in found if found[model] == place], **dict(zip(keys, place, strict=False))}
            for place in dict.fromkeys(found.values())
        ]
        for name, found in (("trained", trained), ("answered", answered))
    }


def _keeps_lowest_loss(name: str, params: Mapping[str, Any]) -> bool:
    """Returns whether the parameters say that a model's trainings keep the epoch with the lowest validation loss."""
    expected = {"monitor": "val_loss", "min_delta": 0, "restore_best": True}
    return all(params.get(f"{name}.early_stopping.{key}") == value for key, value in expected.items())


def _is_augmented(name: str, params: Mapping[str, Any]) -> bool:
    return any(value for key, value in params.items() if key.startswith(f"{name}.augmentation."))
