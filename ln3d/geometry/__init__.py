"""Pure maths of cameras, rays, planes, volumes, surfaces and point sets."""
