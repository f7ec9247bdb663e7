"""Understudy: one description of a self-hosted stack, and everything that is done with it."""

__version__ = "0.1.0"
