"""Training: loop, optimiser, distributed processes, log."""
