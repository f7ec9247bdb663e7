"""What is true of every host. A key here is a field of HostSettings (understudy/settings.py)."""

domain = "example.org"
timezone = "Europe/Skopje"
stack_root = "/home/docker-projects"

# Pinned from the first packet: an unknown or changed key is refused, never learned.
ssh_strict_host_key_checking = "yes"
ssh_connect_retries = 2

# Where backups go. Two stores of different companies, and a disk at home if you have one (docs/backups.md).
# Keys and passwords: `understudy secrets edit backup` (the host's), `understudy secrets edit backup-admin` (yours).
backup = {
    "repositories": {
        # Backblaze B2 through its S3 address, as restic advises. The host's key may write and hide, not delete.
        "offsite": {
            "url": "s3:https://s3.eu-central-003.backblazeb2.com/lemongrab-restic",
            "tamper": "versions",
        },
        # rsync.net, append-only: its server starts rclone itself and accepts nothing else from this key.
        # "second": {"url": "rclone:lemongrab", "ssh": "USER@USER.rsync.net", "tamper": "append-only", "copy_from": "offsite"},
    },
}
