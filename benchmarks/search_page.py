"""Writes down what a search costs, as a section of docs/benchmarks.md."""

from statistics import median
from typing import Any, NamedTuple

from page import judge_ratio, render_ratio, render_table
from results import Measurement, Ratio

from cotejo.tuning.gaussian import NUM_EVEN

#: How many times as fast the search is to be: the promise.
AT_LEAST = 3.0
#: The most that a study of 10,000 trials may take to be opened, resumed and drawn.
MOST_S, MOST_BYTES = 20.0, 2**30


class Race(NamedTuple):
    """A round: a plain search, and Cotejo's until it has found what the plain one had found at its end."""

    seed: int
    plain: Measurement
    cotejo: Measurement


class BigStudy(NamedTuple):
    """What a study of many trials costs.

    Attributes:
        resumed: By sampler.
        drawn: Tables, importances and figures.
        judged: By pruner.
    """

    resumed: dict[str, Measurement]
    drawn: Measurement
    judged: dict[str, Measurement]


def compute_speedup(race: Race) -> float:
    """Returns how many times as fast a round was; one that hasn't reached the accuracy is no faster."""
    own_s, plain_s = race.cotejo["total_time_s"], race.plain["total_time_s"]
    return float(plain_s / (own_s if race.cotejo["is_reached"] else max(own_s, plain_s)))


def compute_race_ratio(races: list[Race]) -> Ratio:
    """Compares the times round by round."""
    ratios = [compute_speedup(race) for race in races]
    return Ratio(median(ratios), min(ratios), max(ratios))


def find_first_time(race: Race) -> float:
    """Returns the seconds after which the plain search had its best trial, as one knows only at its end."""
    return float(next(trial["ended_s"] for trial in race.plain["trials"] if trial["value"] == race.plain["best"]))


def render_search(races: list[Race], big: BigStudy, sizes: dict[str, int]) -> str:
    """Returns the section in Markdown."""
    ratio = compute_race_ratio(races)
    num_missed = sum(not race.cotejo["is_reached"] for race in races)
    missed = f" {num_missed} of {len(races)} didn't reach it." if num_missed else ""
    return f"""## The search

### To the accuracy that {sizes["search_trials"]} full random trials reach

The seconds until a search of LeNet has a trial as good on validation images as the best of {sizes["search_trials"]}
random ones, each trained for {sizes["search_epochs"]} epochs: {render_ratio(ratio)} times as fast; the promise is
{AT_LEAST:g}: {judge_ratio(ratio, AT_LEAST)}.{missed}

{render_races(races)}

- {sizes["search_train"]:,} training and {sizes["search_val"]:,} validation images of Fashion-MNIST's training set; what
  `search.space` in `params.yaml` says of learning rate, batch size, activation, pooling and dropout. What there is to
  gain depends on the space: the fewer of its values are bad, the harder chance is to beat.
- The plain search is what one writes with Optuna and Keras: `study.optimize` with `RandomSampler` and no pruner, one
  trial after the other in one process, `model.fit` on floats made before, the accuracy of the best epoch.
- Cotejo's is the stage's, with the sampler, pruner, batches, threads and workers of `params.yaml`, and stops as a
  trial that has ended is as good: by the epoch of the best accuracy, as the plain one takes it, not of the lowest loss.
  One that doesn't get there in the plain one's time counts with all of its own. Both see all validation images
  (`search.holdout: 0`), and nothing is confirmed.
- Both clocks begin with the process: imports and the start of workers count. Memory is all processes' together, with
  what they share counted in each.
- Trial 0 has the declared values, which the plain search isn't told, and those up to {NUM_EVEN - 1} are spread evenly:
  what these reach owes nothing to what was learnt.
- "Its best trial" is when the plain search had found what it took all {sizes["search_trials"]} trials to know the
  best. Every trial of every round: [benchmarks-search.json](benchmarks-search.json).

### A study of {sizes["big_trials"]:,} trials

Made-up trials of 10 epochs, a third of them stopped early. Each is to take less than {MOST_S:.0f} s and 1 GiB:
{judge_big(big)}. The seconds from opening the study's file until a batch of trials is proposed, and until the next one
is, once a batch has ended and been written down (nearly all of which is the sampler's own arithmetic):

{render_resumed(big)}

Importances come from 500 of the complete trials, drawn by `search.seed`: all 6,666 take minutes, and 2,000 gave the
same shares within 0.02.

What a pruner knows is sent with each trial:

{render_judged(big)}
"""


def render_races(races: list[Race]) -> str:
    """Returns a row per round."""
    rows = []
    for race in races:
        plain, cotejo = race.plain, race.cotejo
        num_pruned = sum(trial["state"] == "PRUNED" for trial in cotejo["trials"])
        epochs = sum(trial["epochs"] for trial in cotejo["trials"])
        found = max((trial["value"] for trial in cotejo["trials"] if trial["value"]), default=float("nan"))
        rows.append(
            (
                f"{race.seed}",
                f"{plain['best']:.4f}",
                f"{plain['total_time_s']:.0f}",
                f"{find_first_time(race):.0f}",
                f"{cotejo['total_time_s']:.0f}" if cotejo["is_reached"] else "not reached",
                f"{compute_speedup(race):.2f}",
                f"{found:.4f}",
                f"{cotejo['trials'][-1]['number']}" if cotejo["is_reached"] else "",
                f"{len(cotejo['trials'])} ({num_pruned})",
                f"{epochs}",
                f"{plain['memory_bytes'] / 1e6:,.0f}",
                f"{cotejo['memory_bytes'] / 1e6:,.0f}",
            )
        )
    columns = ("seed", "accuracy to reach", "plain, s", "its best trial, s", "Cotejo, s", "ratio", "reached",
               "by trial", "trials (pruned)", "epochs", "plain, MB", "Cotejo, MB")  # fmt: skip
    return render_table(columns, "r" * len(columns), rows)


def render_resumed(big: BigStudy) -> str:
    """Returns a row per sampler, and one for the drawing."""
    rows = [
        (f"go on, {sampler}", f"{found['total_time_s']:.1f}", f"{median(found['batches_s']):.3f}", _say_mb(found))
        for sampler, found in big.resumed.items()
    ]
    rows.append(("tables, importances, figures", f"{big.drawn['total_time_s']:.1f}", "", _say_mb(big.drawn)))
    return render_table(("", "seconds", "a further batch, s", "peak MB"), "lrrr", rows)


def render_judged(big: BigStudy) -> str:
    """Returns a row per pruner."""
    rows = [
        (pruner, f"{found['batch_s']:.2f}", f"{found['trial_s']:.2f}", f"{found['sent_bytes'] / 1e6:.1f}")
        for pruner, found in big.judged.items()
    ]
    return render_table(("pruner", "driver, s a batch", "worker, s a trial", "MB sent a trial"), "lrrr", rows)


def judge_big(big: BigStudy) -> str:
    """Says whether all of it is within the promise."""
    found = [*big.resumed.values(), big.drawn]
    is_kept = all(one["total_time_s"] < MOST_S and one["peak_memory_bytes"] < MOST_BYTES for one in found)
    return "yes" if is_kept else "no"


def describe(races: list[Race], big: BigStudy) -> dict[str, Any]:
    """Returns all that was measured, for the file of raw numbers."""
    return {"races": [race._asdict() for race in races], "big_study": big._asdict()}


def _say_mb(found: Measurement) -> str:
    return f"{found['peak_memory_bytes'] / 1e6:,.0f}"
