"""Searches: what is not trusted. They propose heights, budgets, boxes and radii; `calotte.proofs` proves."""
