"""Room of the stage "preprocess"."""
