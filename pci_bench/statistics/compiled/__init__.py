"""Compiled inner loops, kept apart from the evaluators so that listing those does not load a compiler."""
