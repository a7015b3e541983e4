"""Heads: the targets, loss, readout and decoder of one grouping method.  One file each."""
