"""What is true of every host. A key here is a field of HostSettings (understudy/settings.py)."""

domain = "example.org"
timezone = "Europe/Skopje"
stack_root = "/home/docker-projects"

# Pinned from the first packet: an unknown or changed key is refused, never learned.
ssh_strict_host_key_checking = "yes"
ssh_connect_retries = 2
