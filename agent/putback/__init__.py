"""Restores: data set aside, put back, proven, committed or undone."""
