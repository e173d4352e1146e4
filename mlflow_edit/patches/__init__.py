"""What an edit leaves behind: patches, their format and their composition."""
