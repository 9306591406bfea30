"""Predictions on the test images, and their scores."""
