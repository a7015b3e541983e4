"""Necks: features of a backbone -> features that the predictor reads.  One file each."""
