"""How edits are made."""
