"""Wilson's interval against statsmodels, a published table and its own bounds."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from cotejo.errors import DataError
from cotejo.evaluation.metrics import compute_wilson_interval


@pytest.mark.parametrize(("right", "total"), [(0, 10), (10, 10), (1, 1), (81, 263), (8_990, 10_000)])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
def test_wilson_interval_equals_statsmodels(right, total, confidence):
    expected = proportion_confint(right, total, alpha=1 - confidence, method="wilson")
    assert compute_wilson_interval(right, total, confidence) == pytest.approx(expected, abs=1e-12)


def test_wilson_interval_of_newcombes_first_example():
    # R. G. Newcombe (1998), Statistics in Medicine 17, table I: 81 of 263, score method 0.2553 to 0.3662
    assert compute_wilson_interval(81, 263, 0.95) == pytest.approx((0.2553, 0.3662), abs=5e-5)


@given(st.integers(1, 10_000), st.floats(0, 1), st.floats(0.5, 0.999))
def test_wilson_interval_contains_the_share_and_stays_within_0_and_1(total, share, confidence):
    low, high = compute_wilson_interval(share * total, total, confidence)
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1


@pytest.mark.parametrize(("right", "total"), [(11, 10), (-1, 10), (0, 0), (math.nan, 5)])
def test_wilson_interval_refuses_impossible_counts(right, total):
    with pytest.raises(DataError, match=r"Received: num_right="):
        compute_wilson_interval(right, total, 0.95)
