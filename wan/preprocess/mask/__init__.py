"""The person to replace: segmented, masked, cut out."""
