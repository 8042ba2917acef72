"""Relaxation: linear bounds on units and margins, found by pulling rows back through the network."""
