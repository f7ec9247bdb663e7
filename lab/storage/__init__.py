"""Where the practice world keeps its backups: an object store, a REST server, an SSH server, disks, and faults.

Everything runs on this machine. Programs listen on loopback; lab hosts reach them through one relay on the
gateway address of the lab's bridge, which counts requests and can misbehave on demand.
"""
