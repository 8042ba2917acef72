"""Sampling: what random draws say about the misclassification probability."""
