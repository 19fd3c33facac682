"""How many gradients integrated gradients need."""
