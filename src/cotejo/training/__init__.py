"""From a model and two splits to trained weights, the same bytes every time."""
