"""The learned space-group-aware generator: an autoregressive transformer over Wyckoff sites."""
