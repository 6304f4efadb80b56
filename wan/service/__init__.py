"""Room of the stage "service"."""
