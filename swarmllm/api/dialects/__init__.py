"""The shapes of requests and replies that clients speak, one module each; pure translation."""
