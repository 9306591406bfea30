"""Writes the measurements down as docs/benchmarks.md."""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil
from results import (
    Ceiling,
    Contest,
    Cost,
    Measurement,
    Ratio,
    Target,
    compute_busy_share,
    compute_ceilings,
    compute_median,
    compute_ratio,
    compute_targets,
    is_measured,
    take_total_time,
    take_train_time,
    take_whole_epoch,
)

from cotejo.params import load_params

PACKAGES = ("tensorflow", "keras", "torch", "numpy")
#: Opponents in training from scratch, in the order of the table.
TRAINERS = {
    "cotejo": "Cotejo, float32",
    "cotejo_bfloat16": "Cotejo, mixed_bfloat16",
    "keras": "Keras `fit`",
    "torch": "PyTorch eager",
}
#: Opponents in transfer learning.
LEARNERS = {
    "cotejo": "Cotejo, features computed once",
    "cotejo_cached": "Cotejo, features from an earlier run",
    "keras": "Keras `fit` through the frozen backbone",
}


def render_page(contests: dict[str, Contest], sizes: dict[str, Any], took_s: float, others: float) -> str:
    """Returns the page in Markdown.

    Args:
        contests: Measurements of `lenet`, `resnet`, `transfer` and `tracking`.
        sizes: How much was measured; see run.py.
        took_s: Seconds that it all took.
        others: Share of the processors' time that went to other processes meanwhile.
    """
    params = load_params(["base", "lenet", "resnet", "transfer"])
    steps = sizes["resnet"] // params.resnet.batch_size
    ceilings = "\n".join(f"- {render_ceiling(ceiling)}" for ceiling in compute_ceilings(contests["resnet"], steps))
    return f"""# Benchmarks

`make bench` measures these and writes this page; it took {took_s / 60:.0f} minutes. A ratio says how many times as
fast Cotejo is as the opponent in its row: the median of the rounds, and in brackets the lowest and the highest.

{describe_machine(contests["lenet"]["cotejo"][0]["machine"])}
Other processes had {others:.0%} of the processors' time; PyTorch suffers from them most.

{render_targets(compute_targets(contests))}

## Training from scratch

### LeNet: `{params.lenet.architecture}`, batches of {params.lenet.batch_size}

{render_training(contests["lenet"], sizes["lenet"])}

### ResNet: `{params.resnet.architecture}`, batches of {params.resnet.batch_size}

{render_training(contests["resnet"], sizes["resnet"])}

How much faster could it be? Nearly all of the arithmetic is in the seven convolutions. Timed alone (forward, gradients
of the filters and of the inputs, none waiting for another, the batch whole or in halves, whichever is faster):

{ceilings}

### What checkpoints cost

An epoch of LeNet on {sizes["lenet"]:,} images, validation included, until the next one begins:

{render_checkpoints(contests["lenet"])}

### What tracking costs

A LeNet run of {sizes["tracking_epochs"]} epochs on {sizes["tracking"]:,} images, with `runtime.tracking` off and on (to
a SQLite database that is there), in {sizes["tracking_rounds"]} rounds; the promise is 1.02 times as long at most:

{render_tracking(contests["tracking"])}

## Transfer learning

A head on a frozen {params.transfer.backbone} (alpha {params.transfer.alpha:g}, {params.transfer.input_size} pixels,
random weights), {sizes["transfer_epochs"]} epochs on {sizes["transfer"]:,} images, validated on a tenth as many after
each. The time is all of it: building the nets, features, tracing, every epoch.

{render_transfer(contests["transfer"])}

## How it was measured

- Each measurement is a process of its own. In each of {sizes["rounds"]} rounds ({sizes["transfer_rounds"]} in transfer
  learning) every opponent runs once, one after the other, and a ratio compares two processes of the same round. The
  tables show medians of the rounds.
- All train on the same generated images of Fashion-MNIST's size with the same batch size, loss and optimizer (Adam,
  learning rate {params.lenet.learning_rate:g}): {sizes["lenet"]:,} images for LeNet, {sizes["resnet"]:,} for ResNet.
  A process trains for {sizes["epochs"]} epochs; its speed is that of the median epoch but the first, in which graphs
  are built.
- Cotejo runs as its stages do: bytes scaled in the net, reproducible to the bit, {params.base.threads} threads. Its
  validation isn't counted, since the opponents have none.
- Keras has the same net in its own layers (Cotejo's batch normalisation is replaced by `keras.layers`'), without the
  scaling: `model.fit` on float arrays made before the clock starts, accuracy as the metric, neither determinism nor
  threads asked for.
- PyTorch trains the same net from logits, without a metric: a shuffling `DataLoader` over a `TensorDataset` of floats
  with its default of no workers, {params.base.threads} threads. Each process first tries both memory layouts
  and takes the faster one.
- In transfer learning Keras gets images enlarged and scaled before the clock starts; Cotejo enlarges them in its net.
- Memory is the most that a process ever had, its libraries and the arrays of images included.
"""


def describe_machine(name: str) -> str:
    """Returns machine and versions."""
    versions = [f"{package} {find_version(package)}" for package in PACKAGES]
    return (
        f"Machine: {name}, {psutil.virtual_memory().total / 1e9:.0f} GB, {platform.system()} {platform.machine()}.\n"
        f"Versions: Python {platform.python_version()}, {', '.join(versions)}."
    )


def find_version(package: str) -> str:
    """Returns the installed version, or says that there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def render_targets(targets: list[Target]) -> str:
    """Returns a line per target."""
    rows = [(t.what, f"{t.at_least:g}", render_ratio(t.measured), judge_ratio(t.measured, t.at_least)) for t in targets]
    return render_table(("target", "at least", "measured", "met"), "lrrl", rows)


def judge_ratio(measured: Ratio | None, at_least: float) -> str:
    """Says whether a target is met."""
    if measured is None:
        return "not measured"
    return "yes" if measured.median >= at_least else "no"


def put_section(page: str, section: str) -> str:
    """Puts a section in the place of the one with the same title, or before the last one of the page."""
    parts = ["## " + part if number else part for number, part in enumerate(page.split("\n## "))]
    titles = [part.splitlines()[0] for part in parts]
    title = section.splitlines()[0]
    place = titles.index(title) if title in titles else len(parts) - 1
    parts[place : place + (title in titles)] = [section.rstrip("\n") + "\n"]
    return "\n".join(parts)


def render_training(contest: Contest, num_samples: int) -> str:
    """Returns a row per opponent, with a column for each of Cotejo's precisions to compare it with."""
    ours = [name for name in ("cotejo", "cotejo_bfloat16") if name in contest]
    rows = []
    for name in [name for name in TRAINERS if name in contest]:
        found = contest[name]
        if not is_measured(found):
            rows.append((TRAINERS[name], f"not measured: {found[0]['missing']}"))
            continue
        ratios = (
            [] if name in ours else [render_ratio(compute_ratio(contest, us, name, take_train_time)) for us in ours]
        )
        speed = num_samples / compute_median(found, take_train_time)
        rows.append((TRAINERS[name] + describe_layout(found), f"{speed:,.0f}", render_memory(found), *ratios))
    columns = ("", "images/s", "peak MB", *(f"ratio of {TRAINERS[us]}" for us in ours))
    return render_table(columns, "lrr" + "r" * len(ours), rows)


def describe_layout(found: list[Measurement]) -> str:
    """Returns the memory layout that was the faster one, in most rounds."""
    layouts = [measurement["layout"] for measurement in found if "layout" in measurement]
    if not layouts:
        return ""
    usual = max(layouts, key=layouts.count)
    return f", {usual} (faster in {layouts.count(usual)} of {len(layouts)} rounds)"


def render_ceiling(ceiling: Ceiling) -> str:
    """Returns what the convolutions leave to gain."""
    step = "not measured" if ceiling.step_s is None else f"{ceiling.step_s * 1e3:.1f} ms"
    return (
        f"{ceiling.dtype}: the convolutions alone take {ceiling.convolutions_s * 1e3:.1f} ms of a step's {step} "
        f"(plain Keras in float32: {ceiling.keras_s * 1e3:.1f} ms). No implementation on TensorFlow's kernels can be "
        f"more than {ceiling.keras_s / ceiling.convolutions_s:.1f} times as fast as plain Keras."
    )


def render_checkpoints(contest: Contest) -> str:
    """Returns what a checkpoint adds to an epoch."""
    rows = [
        (title, f"{compute_median(contest[name], take_whole_epoch):.3f}")
        for name, title in (("cotejo", "no checkpoints"), ("checkpoints", "a checkpoint after each epoch"))
    ]
    ratio = compute_ratio(contest, "cotejo", "checkpoints", take_whole_epoch)
    return render_table(("", "seconds an epoch", "times as long"), "lrr", [rows[0], (*rows[1], render_ratio(ratio))])


def render_tracking(contest: Contest) -> str:
    """Returns what tracking adds to a run."""
    rows = [
        (name, f"{compute_median(contest[name], take_total_time):.2f}", render_memory(contest[name]))
        for name in contest
    ]
    # the other way round than elsewhere: how many times as long
    ratio = compute_ratio(contest, "off", "on", take_total_time)
    columns = ("tracking", "seconds a run", "peak MB", "times as long")
    return render_table(columns, "lrrr", [rows[0], (*rows[1], render_cost(ratio))])


def render_transfer(contest: Contest) -> str:
    """Returns a row per way to learn."""
    rows = []
    for name, title in LEARNERS.items():
        ratio = render_ratio(compute_ratio(contest, name, "keras", take_total_time)) if name != "keras" else ""
        time_s = compute_median(contest[name], take_total_time)
        rows.append((title, f"{time_s:.1f}", render_memory(contest[name]), ratio))
    return render_table(("", "seconds", "peak MB", "ratio to Keras"), "lrrr", rows)


def render_scaling(contest: Contest, sizes: dict[str, Any]) -> str:
    """Returns the section about how much of their time workers spend on trials."""
    found = {name: measurements[0] for name, measurements in contest.items()}
    gain = found["real 1 4"]["total_time_s"] / found["real 2 4"]["total_time_s"]
    rows = []
    for name, measurement in found.items():
        kind, count, at_once = name.split()
        times = (f"{measurement[key]:.1f}" for key in ("start_s", "total_time_s", "busy_s"))
        share = f"{compute_busy_share(measurement, int(count)):.0%}"
        rows.append(("LeNet" if kind == "real" else "asleep", count, at_once, *times, share))
    columns = ("trials", "workers", "proposed at once", "start, s", "search, s", "trials in all, s", "workers busy")
    return f"""## A search on more workers

LeNet: {sizes["scaling_trials"]} trials of {sizes["scaling_epochs"]} epochs on
{sizes["scaling_samples"]:,} generated images, one thread a trial, nothing pruned. It is the same study on one worker
and on two; two are {gain:.2f} times as fast, an efficiency of {gain / 2:.0%}.

A machine of two cores can't train on more, so further workers only sleep, about as long as a short training takes:
{sizes["sleeping_trials"]} trials, pruned as `params.yaml` says. Processes, asking, telling, pruning and sending are
real. A study depends on how many trials are proposed at once, so what compares is the last column: the share of the
workers' time that trials took. The rest is mostly waiting for the slowest trial of a batch, while others have been
pruned; where more trials are proposed at once than there are workers, they wait less. Starting the workers isn't part
of the search's time.

{render_table(columns, "lrrrrrr", rows)}"""


def render_memory(found: list[Measurement]) -> str:
    """Returns the median of the processes' peaks, in MB."""
    take_peak: Cost = lambda measurement: measurement["peak_memory_bytes"] / 1e6  # noqa: E731 - a cost like the others
    return f"{compute_median(found, take_peak):,.0f}"


def render_cost(ratio: Ratio | None) -> str:
    """Returns the median and the range of what is near 1."""
    return "" if ratio is None else f"{ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"


def render_ratio(ratio: Ratio | None) -> str:
    """Returns the median and the range."""
    return "" if ratio is None else f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"


def render_table(columns: tuple[str, ...], alignment: str, rows: list[tuple[str, ...]]) -> str:
    """Returns a Markdown table; rows may end early. Alignment has a letter a column: l or r."""
    full = [row + ("",) * (len(columns) - len(row)) for row in rows]
    rule = tuple("---" if side == "l" else "--:" for side in alignment)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, rule, *full))
