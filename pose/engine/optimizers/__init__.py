"""Optimisers: torch's own, one file each."""
