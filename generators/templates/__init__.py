"""Crystals made from known ones by exchange of elements: `template` and `metric_learning`."""
