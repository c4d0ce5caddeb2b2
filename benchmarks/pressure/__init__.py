"""Known phases at high pressure, searched at their pressure."""
