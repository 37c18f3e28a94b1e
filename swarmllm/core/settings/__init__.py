"""The settings that the swarm can change while it runs: their table, and what a node's are now."""
