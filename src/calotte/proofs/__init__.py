"""Proofs: what is trusted. Nothing here chooses; whatever is chosen, what comes out is true."""
