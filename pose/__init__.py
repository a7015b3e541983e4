"""Bottom-up multi-person pose estimation: train, test and compare methods from YAML."""

__version__ = "0.1.0"
