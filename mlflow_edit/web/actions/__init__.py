"""Actions that change something: one verb, one file."""
