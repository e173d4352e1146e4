"""How well edits hold."""
