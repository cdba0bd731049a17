"""Expected numbers of the regression gate: data only."""
