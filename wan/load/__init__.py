"""Room of the stage "load"."""
