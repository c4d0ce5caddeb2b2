"""The transformer energy surrogate: network, environments, σ, energy model."""
