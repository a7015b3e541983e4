"""Predictors: features -> stages of fields, for heads that have no layers of their own.  One file each."""
