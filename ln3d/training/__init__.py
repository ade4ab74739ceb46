"""The training loop and the steps of both stages."""
