"""Writes down what comparing many models costs, as a section of docs/benchmarks.md."""

from page import render_table
from results import Measurement

#: The most that it may take: the promise.
MOST_S, MOST_BYTES = 60.0, 4 * 2**30


def render_comparing(found: dict[int, Measurement], sizes: dict[str, int]) -> str:
    """Returns the section in Markdown.

    Args:
        found: What `comparison_scale.compare` has found, by the number of seeds of each model.
        sizes: How much was measured; see run.py.
    """
    rows = [
        (
            f"{num_seeds}",
            f"{measurement['num_pairs']} ({measurement['num_decided']})",
            f"{measurement['size_bytes'] / 1e9:.1f}",
            f"{measurement['total_time_s']:.1f}",
            f"{measurement['processor_s']:.1f}",
            f"{measurement['peak_memory_bytes'] / 2**30:.2f}",
            judge(measurement),
        )
        for num_seeds, measurement in found.items()
    ]
    columns = ("seeds a model", "pairs (decided)", "predictions, GB", "seconds", "of a processor", "peak GiB", "met")
    return f"""## Comparing

The statistics of {sizes["compare_models"]} models with {sizes["compare_samples"]:,} generated test predictions each, 10
classes: all that `reports/comparison.json` holds, in a process of its own. It is to take less than {MOST_S:g} s and
{MOST_BYTES / 2**30:g} GiB.

{render_table(columns, "rrrrrrl", rows)}

The seconds are those of reading the predictions, written as evaluate writes them, and of every interval and test of
every pair; drawing the report, which doesn't grow with the images, isn't counted. Neither TensorFlow nor Keras is
imported: {"yes, it is" if any(one["imports_tensorflow"] for one in found.values()) else "checked"}.
"""


def judge(measurement: Measurement) -> str:
    """Says whether the promise is kept."""
    is_kept = measurement["total_time_s"] < MOST_S and measurement["peak_memory_bytes"] < MOST_BYTES
    return "yes" if is_kept else "no"
