"""Sections of `params.yaml`: strict and frozen."""
