"""Other ways to draw a scene than `ln3d.data.views`, with the same result in kind."""
