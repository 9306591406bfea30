"""The difference that a study would find, against simulation."""

import numpy as np
import pytest

from cotejo.estimation.estimates import estimate_differences, summarize_scores
from cotejo.estimation.power import POWER, compute_detectable


def draw_pair(generator, num_images, share, difference):
    """Draws two trainings: `share` of the images only one classifies correctly, by `difference` more the second."""
    luck = generator.random(num_images)
    first, second = luck < (share - difference) / 2, (luck >= 1 - (share + difference) / 2)
    return summarize_scores(first[None]), summarize_scores(second[None])


@pytest.mark.parametrize("num_images", [100, 2000])
def test_with_one_seed_each_the_power_is_exact(num_images):
    generator = np.random.default_rng(0)
    share = 0.12
    models = draw_pair(generator, num_images, share, 0.0)
    detectable, high = compute_detectable(estimate_differences([models]), models, 0.95)
    assert detectable == high
    # of the share that was drawn, which needn't be the true one
    estimates = estimate_differences([models])
    padded = num_images + 2
    drawn = (estimates.variances[0, 0] * padded**2 + estimates.centre[0] ** 2 * padded) / padded
    pairs = [draw_pair(generator, num_images, drawn, detectable) for _ in range(1500)]
    found = estimate_differences(pairs).compute_p_values() < 0.05
    assert found.mean() == pytest.approx(POWER, abs=0.035)


def test_with_few_seeds_the_upper_end_is_well_above_the_lower():
    generator = np.random.default_rng(1)
    difficulty = generator.normal(size=3000)
    models = tuple(
        summarize_scores(difficulty + generator.normal(size=(3, 3000)) < 1.8 + 0.05 * generator.normal(size=(3, 1)))
        for _ in range(2)
    )
    low, high = compute_detectable(estimate_differences([models]), models, 0.95)
    assert 0 < low < high


def test_five_images_can_find_nothing_small():
    models = tuple(summarize_scores(np.array([[True, False, True, True, False]])) for _ in range(2))
    detectable, _ = compute_detectable(estimate_differences([models]), models, 0.95)
    assert detectable > 0.5
