"""Tested runs side by side, for pose.tools.compare."""
