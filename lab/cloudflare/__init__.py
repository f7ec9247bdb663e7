"""Cloudflare's API as far as Understudy uses it, for the practice world: the unmodified SDK works against it."""
