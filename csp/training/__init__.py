"""What every training shares: the loop, checkpoints, learning rates, model cards, splits."""
