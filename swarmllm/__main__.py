"""`python -m swarmllm` is the same as `swarmllm`."""

from swarmllm.cli import main

if __name__ == "__main__":
    main()
