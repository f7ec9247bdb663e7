"""Databases: a consistent dump of each kind, and its way back."""
