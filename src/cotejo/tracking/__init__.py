"""Records of runs: written on this machine first, then sent to MLflow."""
