"""From meshes to shards, from shards and latents to batches."""
