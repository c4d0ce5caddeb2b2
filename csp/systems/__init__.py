"""Whole chemical systems: from elements to the phases that are stable, in many searches that share a hull."""
