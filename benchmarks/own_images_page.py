"""Writes down what pictures of one's own cost, as a section of docs/benchmarks.md."""

from typing import Any

from page import render_table
from pydantic import ByteSize, TypeAdapter
from results import Measurement

#: The most seconds that preparing the folder of small JPEG files may take: the promise.
MOST_S = 20.0


def render_own_images(
    prepared: Measurement, trained: Measurement, predicted: Measurement, sizes: dict[str, Any]
) -> str:
    """Returns the section in Markdown.

    Args:
        prepared: What `own_images.prepare` has found.
        trained: What `own_images.train` has found.
        predicted: What `own_images.predict` has found.
        sizes: How much was measured; see run.py.
    """
    preprocess = prepared["preprocess"]
    side, limit_bytes = sizes["own_large_side"], TypeAdapter(ByteSize).validate_python(sizes["own_memory_limit"])
    rows = [
        (name, f"{one['total_time_s']:.0f}", f"{one['peak_memory_bytes'] / 1e9:.2f}", judge(one, limit_bytes))
        for name, one in trained["stages"].items()
    ]
    answers = [
        (f"{count:,}", f"{one['total_time_s']:.1f}", f"{one['peak_memory_bytes'] / 1e6:,.0f}")
        for count, one in predicted["by_count"]
    ]
    return f"""## Your own images

Generated pictures in colour, on the real stages and commands, each of them a process; its start is part of the time.

- **Preparing.** {sizes["own_images"]:,} JPEG files of {sizes["own_side"]}x{sizes["own_side"]} pixels, from the folder
  to `data/processed` with checks, data card and figures: {preprocess["total_time_s"]:.1f} s,
  {preprocess["peak_memory_bytes"] / 1e6:,.0f} MB at most. It is to take less than {MOST_S:g} s:
  {"yes" if preprocess["total_time_s"] < MOST_S else "no"}.
- **More pixels than memory.** {sizes["own_large_images"]:,} JPEG files of {side}x{side} pixels,
  {trained["size_bytes"] / 1e9:.1f} GB when decoded, with `runtime.memory_limit: {sizes["own_memory_limit"]}`; one seed,
  {sizes["own_epochs"]} epoch{"s" if sizes["own_epochs"] > 1 else ""}:

{render_table(("stage", "seconds", "peak GB", "within the limit"), "lrrl", rows)}

- **Predicting.** `cotejo predict` on PNG files of {sizes["own_side"]}x{sizes["own_side"]} pixels, with a LeNet:

{render_table(("pictures", "seconds", "peak MB"), "rrr", answers)}
"""


def judge(measurement: Measurement, most_bytes: float) -> str:
    """Says whether a stage has kept within its memory."""
    return "yes" if measurement["peak_memory_bytes"] < most_bytes else "no"
