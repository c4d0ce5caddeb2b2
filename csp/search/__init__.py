"""The search: `search` has its stages, `funnel` who passes each, `conclude` what follows from it all."""
