"""Published methods, to be compared with: re-implemented, or driven as their packages are."""
