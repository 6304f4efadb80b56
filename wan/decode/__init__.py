"""Room of the stage "decode"."""
