"""Secrets of the services: one SOPS file a service, encrypted with age. The one seam to SOPS."""

from .audit import check
from .errors import SecretsError
from .identity import key_file, recipients_of_key_file
from .masker import Masker
from .scan import scan_tree
from .setup import Initialised, init
from .store import Store
from .values import generate, weakness

__all__ = [
    "Initialised",
    "Masker",
    "SecretsError",
    "Store",
    "check",
    "generate",
    "init",
    "key_file",
    "recipients_of_key_file",
    "scan_tree",
    "weakness",
]
