"""First hits of rays on triangles, and the paint and light found there. NumPy and Embree only, no torch."""
