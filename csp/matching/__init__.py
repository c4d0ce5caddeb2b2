"""When are two crystals the same? Fingerprints, reduced cells, site assignment, the matcher."""
