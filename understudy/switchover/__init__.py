"""Moves a group's traffic and data from one host to another: planned, forced, and back (protocol.md §2)."""
