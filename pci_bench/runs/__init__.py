"""A run and its results: the runner, records, comparison, ranking, the regression gate."""
