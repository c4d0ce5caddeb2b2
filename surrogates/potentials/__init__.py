"""Published universal potentials as energy models."""
