"""The bundled demo experts: one folder each, with the compact model, its card, and the logits that
tests compare llama.cpp with."""
