"""Repositories as the control machine sees them: with the admin key, which no host holds (protocol.md §4)."""
