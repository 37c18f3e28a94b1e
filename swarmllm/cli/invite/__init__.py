"""The command `swarmllm invite`: making an invite, and reading one."""
