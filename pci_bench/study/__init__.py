"""Studies: many benchmarks of one dataset, one after the other, and what their numbers say together."""
