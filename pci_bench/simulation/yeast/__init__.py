"""Simulated yeast: anatomy, protein distributions, optics."""
