"""What the report promises, counted in studies whose truths are known; docs/statistics.md has the whole grid."""

import pytest

from simulated_studies import MARGIN, Cell, list_cells, simulate

#: The hardest kinds: few images, few seeds that vary much or not at all, many models.
HANDFUL = {
    "few images, one seed": Cell(30, 1, (0.9, 0.9), (0.0, 0.0)),
    "few images, three seeds": Cell(30, 3, (0.9, 0.9), (0.002, 0.002)),
    "two seeds that vary": Cell(1000, 2, (0.9, 0.9), (0.005, 0.005)),
    "two models that vary unequally": Cell(1000, 3, (0.9, 0.9), (0.001, 0.006)),
    "four equal models": Cell(300, 3, (0.9,) * 4, (0.002,) * 4),
    "a cheap one that is too bad": Cell(1000, 3, (0.9 - 1.02 * MARGIN, 0.9, 0.9, 0.9), (0.002,) * 4),
}


def check(rates, num_studies):
    """Checks the promises, give or take three standard errors of a share of 5%, 2.5% or 95%."""
    error = 3 * (0.05 * 0.95 / num_studies) ** 0.5
    assert min(rates.own, rates.best, rates.pairs) > 0.94 - error
    assert rates.better < 0.05 + error
    assert rates.as_good < 0.025 + error
    assert rates.cost < 0.05 + error


@pytest.mark.parametrize("name", HANDFUL)
def test_promises_hold_in_simulated_studies(name):
    check(simulate(HANDFUL[name], 150, seed=1), 150)


def test_a_large_difference_is_found_in_nearly_every_study():
    assert simulate(Cell(2000, 3, (0.85, 0.9), (0.002, 0.002)), 40).found > 0.9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "cell"), [*list_cells((30, 1000), (1, 3), (2,)), *list_cells((100,), (2,), (4,))], ids=str
)
def test_promises_hold_in_a_thinned_grid(kind, cell):
    assert kind in ("equal", "worse")
    check(simulate(cell, 60, seed=2), 60)
