"""Targets drawn on the batch's device: pure functions, no loop over images or keypoints, no host sync."""
