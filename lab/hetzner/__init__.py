"""Hetzner Cloud's API as the practice world has it: every server is a real lab host."""
