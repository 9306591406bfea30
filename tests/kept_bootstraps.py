"""The bootstraps of a comparison, computed once for the same answers of models.

They take nearly all of a comparison's time. Tests of its rules change other numbers, and compare the same answers again
and again. What the bootstraps are is tested in `tests/comparison/test_bootstrap.py`, without this.
"""

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cotejo.comparison import comparison

#: By function and arguments.
RESULTS: dict[tuple[str, bytes], Any] = {}


@contextmanager
def keep_bootstraps() -> Iterator[None]:
    """Makes `build_comparison` take what the same functions have computed from equal arguments."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("bootstrap_accuracy_difference", "compute_f1_differences"):
            patch.setattr(comparison, name, _keep_results(name, getattr(comparison, name)))
        yield


def _keep_results(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def compute(*args: Any, **options: Any) -> Any:
        key = (name, pickle.dumps((args, options)))
        if key not in RESULTS:
            RESULTS[key] = function(*args, **options)
        return RESULTS[key]

    return compute


@pytest.fixture(scope="module", autouse=True)
def kept_bootstraps() -> Iterator[None]:
    """Computes each bootstrap once, for the folders of tests whose conftest imports this."""
    with keep_bootstraps():
        yield
