"""What modules are, as text and as pictures."""
