"""ln3d: from a folder of meshes to a 3D generative model, from a sentence to a GLB."""

__version__ = "0.1.0"
