"""Paths, solvers and guidance: pure maths."""
