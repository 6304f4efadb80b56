"""How the miniature in assets/wan-mini was trained. Nothing of the pack needs this."""
