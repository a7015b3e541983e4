"""The training stream: settings, selection, augmentation, samples, batches."""
