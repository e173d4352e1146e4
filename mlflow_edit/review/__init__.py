"""What a reviewer sees: core objects in, self-contained HTML out."""
