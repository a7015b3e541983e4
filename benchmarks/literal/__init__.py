"""The associative embedding system pose-ae-train, restated slowly and literally to compare fast code with."""
