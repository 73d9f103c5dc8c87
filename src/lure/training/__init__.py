"""Training: `fit`, the only loop; its schedule, its loader, the reader of outputs, and what acts while it runs."""
