"""People and their poses: found, measured, converted and drawn."""
