"""The HTTP API of a node: OpenAI's and Anthropic's shapes over the node's service."""
