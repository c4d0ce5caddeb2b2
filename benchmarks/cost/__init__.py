"""What a search costs, from its formula to its page, and how far that is from what it would have to."""
