"""`swarmllm agent` and `swarmllm experts`."""
