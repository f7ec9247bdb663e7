"""Hosts that stand ready. They carry every move group unless `groups` names some."""

role = "replica"
