"""Backbones: an image -> a list of stages, each a dict of named dense maps.  One file each."""
