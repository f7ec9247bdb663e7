"""The host that serves."""

role = "primary"
