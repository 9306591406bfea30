"""Estimates over images and training seeds: the one engine behind every interval and every test."""
