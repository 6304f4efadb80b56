"""Room of the stage "encode"."""
