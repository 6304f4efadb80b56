"""Room of the stage "sample"."""
