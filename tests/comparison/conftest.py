"""Comparisons of the same made-up answers share their bootstraps."""

from collections.abc import Iterator

import pytest

from kept_bootstraps import keep_bootstraps


@pytest.fixture(scope="module", autouse=True)
def kept_bootstraps() -> Iterator[None]:
    """Computes each bootstrap once."""
    with keep_bootstraps():
        yield
