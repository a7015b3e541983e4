"""The drawn people: described, painted and annotated."""
