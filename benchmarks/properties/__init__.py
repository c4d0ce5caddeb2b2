"""How well property models foretell, and what few values are worth with them."""
