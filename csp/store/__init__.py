"""What a run has done, in SQLite or PostgreSQL."""
