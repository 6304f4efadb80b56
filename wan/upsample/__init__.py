"""Room of the stage "upsample"."""
