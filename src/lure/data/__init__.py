"""Data: labelled examples, the stream that cuts them into mega-batches, replay, augmentation, sources."""
