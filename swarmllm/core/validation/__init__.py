"""Validation of a proposed setting: what goes into it, what is compared, and what comes out."""
