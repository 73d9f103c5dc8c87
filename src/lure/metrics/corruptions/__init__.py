"""The corruptions of CIFAR-10-C, and the filters that they are made of."""
