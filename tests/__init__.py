"""The tests: a package, for others are installed that bring a folder of this name."""
