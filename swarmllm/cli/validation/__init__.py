"""`swarmllm validate`: what would become of the swarm if a setting were changed."""
