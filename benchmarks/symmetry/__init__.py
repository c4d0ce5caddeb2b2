"""What is saved where energy models are told of symmetry and of pairs from earlier steps."""
