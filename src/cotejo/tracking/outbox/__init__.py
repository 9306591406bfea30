"""What MLflow hasn't got yet, and what sends it: while a stage runs, or by `cotejo sync`."""
