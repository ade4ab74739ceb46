"""Frozen networks by name."""
