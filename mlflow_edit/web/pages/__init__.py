"""Pages that only show: one page, one file."""
