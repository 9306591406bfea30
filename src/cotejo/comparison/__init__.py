"""Which of two classifiers is better, by how much, and at what cost."""
