"""Literal restatements that tests and benchmarks compare with."""
