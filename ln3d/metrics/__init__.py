"""How results are measured: pure functions."""
