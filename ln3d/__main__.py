"""`python -m ln3d` and `torchrun -m ln3d` are the same command line as `ln3d`."""

from ln3d.cli.app import main

main()
