"""From images to people, to results files, to scores."""
