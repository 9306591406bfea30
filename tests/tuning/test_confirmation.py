"""The gain of a winner: its interval is the engine's, and what isn't there is rarely found."""

import math

import numpy as np
import pytest
from scipy import stats

from cheap_search import declare_search
from cotejo.estimation.estimates import estimate_differences, summarize_scores
from cotejo.tuning.confirmation import estimate_gain

SEEDS = [7, 8, 9, 10, 11]


def answer(accuracy, num_images=1000):
    """Returns the scores of a training that has the first images correct, and no other."""
    return np.arange(num_images) < round(accuracy * num_images)


def confirm(present, best, searched=0.9, **changes):
    """Confirms with arrays of scores, or with accuracies; of the latter, errors are the cross-entropy's scores."""
    search = declare_search(**changes)

    def score(value):
        if isinstance(value, np.ndarray):
            return value
        return answer(value) if search.metric == "val_accuracy" else np.float32(~answer(1 - value))

    seeds = SEEDS[: len(present)]
    return estimate_gain(seeds, [score(value) for value in present], [score(value) for value in best], searched, search)


@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize("seed", range(3))
def test_the_interval_of_accuracy_is_the_engines(seed, confidence):
    generator = np.random.default_rng(seed)
    present, best = generator.random((2, 4, 300)) < np.array([0.8, 0.85])[:, None, None]
    said = confirm(list(present), list(best), confidence=confidence)
    estimates = estimate_differences([(summarize_scores(present), summarize_scores(best))])
    (low,), (high,) = estimates.compute_intervals(confidence)
    assert (said.low, said.high) == (low, high)
    assert said.gain == pytest.approx(best.mean() - present.mean())
    assert said.present == pytest.approx(present.mean(axis=1))
    assert said.best == pytest.approx(best.mean(axis=1))


@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize("seed", range(3))
def test_the_interval_of_cross_entropy_is_the_engines_the_other_way_round(seed, confidence):
    present, best = np.random.default_rng(seed).exponential([[[0.5]], [[0.4]]], (2, 4, 300)).astype(np.float32)
    said = confirm(list(present), list(best), confidence=confidence, metric="val_cross_entropy")
    both = np.float64([present, best])
    unit, middle = both.std(), both.mean()
    scores = [summarize_scores(values, unit=unit, middle=middle) for values in both]
    estimates = estimate_differences([(scores[0], scores[1])], low=-math.inf, high=math.inf)
    (low,), (high,) = estimates.compute_intervals(confidence)
    assert (said.low, said.high) == pytest.approx((-high, -low), rel=1e-12)
    assert said.gain == pytest.approx(both[0].mean() - both[1].mean())
    assert said.best == pytest.approx(both[1].mean(axis=1))


def test_the_interval_by_hand():
    # two seeds that agree on each image: the winner has 15 of 100 images more, and the seeds vary nothing. With one
    # pseudo-image each way there are 102, of which 16 count for the winner and one against it
    said = confirm([answer(0.8, 100)] * 2, [answer(0.95, 100)] * 2)
    centre = 15 / 102
    error = math.sqrt((17 - 102 * centre**2) / 102**2)
    reach = stats.t.ppf(0.975, 99) * error
    assert (said.low, said.high) == pytest.approx((centre - reach, centre + reach))
    assert said.gain == pytest.approx(0.15)
    assert (said.verdict, said.seeds) == ("real", [7, 8])
    assert said.present == [0.8, 0.8]


@pytest.mark.parametrize(
    ("present", "best", "expected"),
    [
        ([0.80, 0.81, 0.82], [0.90, 0.91, 0.92], "real"),
        ([0.90, 0.91, 0.92], [0.80, 0.81, 0.82], "worse"),
        ([0.80, 0.90, 0.85], [0.86, 0.84, 0.90], "not decided"),
        ([0.9, 0.9], [0.9, 0.9], "not decided"),
        ([0.9, 0.9], [0.902, 0.902], "not decided"),  # seeds that agree: two images are few all the same
        ([0.80, 0.90], [0.91, 0.92], "not decided"),  # a thousand images, but two seeds far apart
    ],
)
def test_the_verdict_is_what_the_interval_says_for_either_direction(present, best, expected):
    assert confirm(present, best).verdict == expected
    flipped = {"real": "worse", "worse": "real"}
    assert confirm(present, best, metric="val_cross_entropy").verdict == flipped.get(expected, expected)


@pytest.mark.parametrize(
    ("metric", "searched", "optimism"),
    [
        ("val_accuracy", 0.95, 0.04),  # the search saw 0.95, fresh seeds 0.91: four points were luck
        ("val_accuracy", 0.90, -0.01),
        ("val_cross_entropy", 0.87, 0.04),  # a loss that was lower in the search than it is
        ("val_cross_entropy", 0.92, -0.01),
    ],
)
def test_optimism_is_how_much_better_the_search_saw_it(metric, searched, optimism):
    said = confirm([0.8, 0.81, 0.82], [0.90, 0.91, 0.92], searched, metric=metric)
    assert said.optimism == pytest.approx(optimism)


NUM_STUDIES, NUM_TRIALS, NUM_SIDE = 300, 30, 150


def test_a_gain_that_is_not_there_is_seldom_called_real_on_held_out_images_but_often_on_those_that_chose():
    """All values are equally good, each on images of its own; the search takes what suits the selecting ones."""
    generator, search = np.random.default_rng(0), declare_search()
    sides = {"selecting": slice(0, NUM_SIDE), "held_out": slice(NUM_SIDE, None)}
    counts = dict.fromkeys(sides, 0)

    def train(logits):
        """Returns what trainings answer correctly: each seed shifts all images a little."""
        logits = logits + generator.normal(0.0, 0.1, (len(logits), 1))
        return generator.random(logits.shape) < 1 / (1 + np.exp(-logits))

    for _ in range(NUM_STUDIES):
        # the declared values' are the first; the winner is one of the others
        logits = generator.normal(2.0, 3.0, (1 + NUM_TRIALS, 2 * NUM_SIDE))
        winner = 1 + int(train(logits)[1:, sides["selecting"]].mean(axis=1).argmax())
        declared, best = (train(np.repeat(logits[which : which + 1], 4, axis=0)) for which in (0, winner))
        for side, part in sides.items():
            verdict = estimate_gain(SEEDS[:4], list(declared[:, part]), list(best[:, part]), 0.0, search).verdict
            counts[side] += verdict == "real"
    # 2.5% are promised: of 300 studies 7.5, and 15 or more by chance once in a hundred times
    assert counts["held_out"] < 15, counts
    assert counts["selecting"] >= 15, counts
