"""Comparisons of the same made-up answers share their bootstraps."""

from kept_bootstraps import kept_bootstraps  # noqa: F401 - a fixture for every test here
