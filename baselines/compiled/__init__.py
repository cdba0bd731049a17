"""Compiled inner loops of feature sets, kept apart so that listing feature sets does not load a compiler."""
