"""Validation of a proposed setting in the simulator: with and without it, seed by seed."""
