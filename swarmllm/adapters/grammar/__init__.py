"""Grammars for constrained output: llguidance over the swarm's vocabulary."""
