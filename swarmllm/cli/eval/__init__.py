"""`swarmllm eval`; see `command`, which is imported only by who runs it: the processes that hold
the models start lighter without."""
