"""Other programs for structure prediction and the engine, at equal time with the same potential."""
