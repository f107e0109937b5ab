"""The engine: loop, optimiser, checkpoints, interruption."""
