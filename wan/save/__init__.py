"""Room of the stage "save"."""
