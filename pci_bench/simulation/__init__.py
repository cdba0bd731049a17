"""Simulated screens of yeast and human cells, and the exact arithmetic that they are drawn with."""
