"""Judges from outside whether a group's owner is dead, or only a service, a line, the edge, or this host's own network."""
