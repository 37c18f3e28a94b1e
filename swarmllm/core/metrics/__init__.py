"""Metrics: what a node counts of its own work, for whoever runs it."""
