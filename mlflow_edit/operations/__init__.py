"""WHAT a user can do: one verb, one file."""
