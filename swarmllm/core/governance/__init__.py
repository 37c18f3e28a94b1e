"""Governance: what a swarm may change about itself, who decides, and when it takes effect here."""
