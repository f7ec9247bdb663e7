"""Texts and types that the unit tests share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

VARIABLES = {"DOMAIN": "example.org", "TZ": "Etc/UTC"}
Write = Callable[[str, str], Path]

NOTES = """
services:
  app:
    image: example/notes:1.2.3
    ports: ["127.0.0.1:8100:80"]
    environment: {BASE: "https://notes.${DOMAIN}"}
    secrets: [key]
    volumes:
      - ./data:/data
      - ./notes.conf:/etc/notes.conf:ro
secrets:
  key: {file: /etc/understudy/secrets/notes/KEY}
"""

NOTES_BLOCK = """
needs: []
routes:
  - {host: notes, to: "app:80", probe: {path: /health, text: alive}}
databases: [{sqlite: "app:/data/notes.db"}]
secrets:
  KEY: {generate: alnum32, uid: 1000}
"""
