"""Data: COCO-format pictures and keypoints, augmentation, and the drawn data set."""
