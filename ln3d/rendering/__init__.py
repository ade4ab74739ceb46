"""Fields, and pictures of them."""
