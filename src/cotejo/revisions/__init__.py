"""Experiments, branches, tags and commits side by side: the same model, trained with something changed."""
