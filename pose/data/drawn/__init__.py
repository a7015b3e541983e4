"""The people of the embedded data set: described, painted and annotated."""
