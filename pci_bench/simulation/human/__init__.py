"""Simulated human cells: anatomy, protein distributions, optics."""
