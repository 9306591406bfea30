"""Hyperparameter search, on validation data only."""
