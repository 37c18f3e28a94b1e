"""The ledger: an append-only log of what steered this node, which others can hold it to."""
