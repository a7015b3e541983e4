"""Pictures, videos and cameras -> people, drawn pictures and records: what `pose.demo` is made of."""
