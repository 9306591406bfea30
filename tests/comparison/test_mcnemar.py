"""McNemar's exact test against statsmodels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar

from cotejo.comparison.mcnemar import compare_trainings

ANSWERS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


@settings(max_examples=30)
@given(ANSWERS)
def test_it_is_statsmodels_exact_test(answers):
    first, second = np.array(answers).T
    table = [[(first & second).sum(), (first & ~second).sum()], [(~first & second).sum(), (~first & ~second).sum()]]
    found = compare_trainings(first, second)
    assert (found.only_baseline, found.only_candidate) == (table[0][1], table[1][0])
    if table[0][1] + table[1][0]:
        assert found.p_value == pytest.approx(mcnemar(table, exact=True).pvalue)


@pytest.mark.parametrize(
    ("only_baseline", "only_candidate", "p_value"),
    # twice the chance of so few heads in so many tosses
    [(0, 0, 1.0), (0, 1, 1.0), (0, 5, 2 / 32), (1, 4, 2 * 6 / 32), (5, 5, 1.0), (8, 0, 2 / 256)],
)
def test_p_by_hand(only_baseline, only_candidate, p_value):
    first = np.array([True] * 7 + [True] * only_baseline + [False] * only_candidate)
    second = np.array([True] * 7 + [False] * only_baseline + [True] * only_candidate)
    assert compare_trainings(first, second) == (only_baseline, only_candidate, pytest.approx(p_value))
    assert compare_trainings(second, first).p_value == pytest.approx(p_value)
