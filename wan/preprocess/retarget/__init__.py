"""One body's motion on another body's proportions."""
