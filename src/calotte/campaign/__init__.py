"""Campaigns: many inputs, kept one by one in a database, worked on here, by processes or by a cluster."""
