"""Results for people: files, page, pictures, terminal."""
