"""Statistics as pure functions of arrays: neighbours, votes, distances, metrics, intervals, enrichment."""
