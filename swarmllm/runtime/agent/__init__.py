"""The shell of the agent: looks, asks, has simulated and signs what `core.agent.part` wants."""
