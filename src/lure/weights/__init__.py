"""What methods work with: kinds of layers, saliency, selection, fresh weights, the optimiser's state."""
