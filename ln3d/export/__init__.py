"""Triangle meshes as files, and what can be said of them."""
