"""The Python API of a trained model."""
