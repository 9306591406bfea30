"""What each section of `params.yaml` may hold: strict and frozen."""
