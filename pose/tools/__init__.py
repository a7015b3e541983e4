"""Command line tools: `python -m pose.tools.NAME`."""
