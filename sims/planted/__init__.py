"""Planted faults: settings at bad values, and an agent's cycles that are to find and mend them."""
