"""Training the surrogate: data, virtual crystals, losses, batches."""
