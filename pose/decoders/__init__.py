"""Decoders: dense fields -> people, for a batch.  One file each."""
