"""One file of figures for each stage that draws, so that a change of one re-runs that stage alone."""
