"""What methods work with: kinds of layers, saliency, selection, fresh weights, eval mode, the optimiser's state."""
