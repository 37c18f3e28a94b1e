"""The self-improvement agent: it observes the swarm, proposes changes and has them tried."""
