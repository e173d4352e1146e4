"""WHERE versions live."""
