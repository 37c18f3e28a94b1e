"""Governance at the command line: proposals, votes, phases, tiers."""
