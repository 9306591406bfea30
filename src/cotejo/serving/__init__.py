"""Trained models at work on new pictures."""
