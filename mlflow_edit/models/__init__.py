"""How to reach inside a base model."""
