"""Which saved model stands for the study: the best one on the validation images."""

from collections.abc import Mapping
from typing import Any

from cotejo.comparison.records import Comparison
from cotejo.schema.results import Metrics

#: Scores of the champion that the registry shows, means over the seeds.
SHOWN = (
    "val_accuracy",
    "val_accuracy_low",
    "val_accuracy_high",
    "test_accuracy",
    "test_accuracy_low",
    "test_accuracy_high",
    "confidence",
    "test_loss",
    "test_macro_f1",
    "parameters",
)


def find_champion(comparison: Comparison, metrics: Mapping[str, Metrics]) -> dict[str, Any]:
    """Returns the archive of the served model, and the comparison's conclusions on the others.

    Model and seed are chosen on the validation images, of the model's seeds the one with the lowest cross-entropy. If
    test images chose, the test accuracy of what they chose would be too good.

    Args:
        comparison: The comparison.
        metrics: `reports/metrics/<model>.json` by model.

    Returns:
        `path` and `sha256` of the archive, its `input_shape` and `num_classes`; `tags` and `description` for the
        registry; `compared`, the SHA-256 of every archive that took part, and `equals`, of those that are as good.
    """
    best, tied = comparison.get_model(comparison.served), comparison.served_ties
    digests = {name: {row.seed: row.model_sha256 for row in metrics[name].per_seed} for name in metrics}
    seed = min(best.seeds, key=lambda row: (row.val_cross_entropy, row.seed))
    facts, dataset = comparison.facts, comparison.dataset
    tags = {
        "model": best.name,
        "seed": seed.seed,
        "seed_test_accuracy": seed.test_accuracy,
        **{key: getattr(best, key) for key in SHOWN},
        "tied": ", ".join(tied) or "none",
        "data": dataset["name"],
        "data.sha256": dataset["digest"],
        "git.commit": facts["git_commit"] or "none",
        "git.dirty": str(facts["dirty"]).lower(),
    }
    return {
        "path": f"models/{best.name}/seed-{seed.seed}/model.keras",
        "sha256": digests[best.name][seed.seed],
        "input_shape": dataset["image_shape"],
        "num_classes": len(dataset["class_names"]),
        "tags": {key: str(value) for key, value in tags.items()},
        "description": (
            f"{best.name}, seed {seed.seed}. Chosen on the validation images. Test accuracy {best.test_accuracy:.2%} "
            f"(seeds: {len(best.seeds)}); {best.confidence:.0%} interval {best.test_accuracy_low:.2%} to "
            f"{best.test_accuracy_high:.2%}. "
            + (
                f"On the validation images not decided against: {tags['tied']}."
                if tied
                else "On the validation images better than all that it was compared with."
            )
        ),
        "compared": sorted(digest for name in digests for digest in digests[name].values()),
        "equals": sorted(digest for name in (best.name, *tied) for digest in digests[name].values()),
    }
