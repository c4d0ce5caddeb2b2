"""From energies to an order: ranking, probabilities, the convex hull and its references."""
