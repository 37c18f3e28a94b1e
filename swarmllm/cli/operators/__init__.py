"""The operators' commands: keys, the charter, and the records that stop and start a swarm."""
