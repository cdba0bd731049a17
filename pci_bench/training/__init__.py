"""Training: pairs of cells, one loop for every trainable model, checkpoints that resume."""
