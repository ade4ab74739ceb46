"""Mesh files and game archives, read with limits."""
