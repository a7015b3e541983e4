"""Pictures of people, fields and samples, and pages that hold them."""
