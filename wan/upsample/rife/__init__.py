"""RIFE: frames between frames, with every published network from 4.7 to 4.26 and v3 HD."""
