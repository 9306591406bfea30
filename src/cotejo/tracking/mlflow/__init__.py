"""Everything that calls MLflow: runs and models."""
