"""The sources of meshes, one file each."""
