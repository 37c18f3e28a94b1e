"""The console: the pages that a browser shows of a node, beside the API that programs use."""
