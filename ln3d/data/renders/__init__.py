"""Pictures that were rendered elsewhere, one file for each layout in which they are published."""
