"""Copies of folders to another place: rclone to stores, rsync to another host's disk (docs/jobs.md)."""
