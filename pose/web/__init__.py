"""The page of pose.tools.web."""
