"""Who may write: ownership of move groups, learned without any credential (protocol.md §1)."""
