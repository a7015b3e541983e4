"""Losses: pure functions on whole batches."""
