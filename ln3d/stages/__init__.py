"""One file per command: open the inputs, do the work, publish."""
