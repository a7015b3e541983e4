"""Pictures -> people: canvases, fusion, batches, whole sets."""
