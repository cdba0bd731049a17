"""Networks of feature sets, kept apart so that listing feature sets does not load torch."""
