"""What a keypoint file says: one reader, its issues, its cache."""
