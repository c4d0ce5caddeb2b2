"""Published methods, re-implemented to be compared with."""
