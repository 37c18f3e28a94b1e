"""Tests of swarmllm/cli/invite."""
