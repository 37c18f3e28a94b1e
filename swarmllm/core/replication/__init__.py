"""Replicated sets of signed records: whoever has them passes them on until everybody has."""
