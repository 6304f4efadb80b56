"""Which weights are there, which are missing, and how they come."""
