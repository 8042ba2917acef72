"""Cuboids: few independent coordinates of noise, cut up until the event is certain or excluded."""
