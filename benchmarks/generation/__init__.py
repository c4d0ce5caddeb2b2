"""What the generators propose, before any energy."""
