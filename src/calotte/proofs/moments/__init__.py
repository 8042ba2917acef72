"""Moments: tails of sums of ReLUs of Gaussian units, one layer or several, by exponential moments."""
