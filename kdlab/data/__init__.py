"""Data: tasks from worlds, files and the Hub; batches, masking, augmentation."""
