"""People -> numbers: COCO, AI Challenger, PCK."""
