"""The machine-readable records of `--json`, the local socket and the node library: one JSON object each, stable names (ux.md)."""
