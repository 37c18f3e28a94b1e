"""Trust is what an expert's word is worth to this node, by what it has seen itself."""
