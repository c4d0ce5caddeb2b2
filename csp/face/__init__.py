"""What `import csp` offers: searches, relaxations and models for work in Python, a notebook say."""
