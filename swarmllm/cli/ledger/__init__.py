"""`swarmllm ledger`: what this node wrote down, and whether it is still that."""
