"""What is on disk between stages: sealed folders with a manifest, published by one rename."""
