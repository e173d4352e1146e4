"""What an edit is: pure values and rules, no tensors and no I/O."""
