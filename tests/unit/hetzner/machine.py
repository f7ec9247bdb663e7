"""A machine with an SSH server whose host key is read anew for every connection, as sshd does after a reload."""

from __future__ import annotations

import socket
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import paramiko

from understudy.replica import identity
from understudy.replica.login import Door


class Machine:
    """Commands really run, in this machine's shell."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.first = identity.new_key("first")
        self.write("ssh_host_ed25519_key", self.first.private)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "login"], check=True)
        self.let_in = True
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o600)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._greet, args=(connection,), daemon=True).start()

    def _greet(self, connection: socket.socket) -> None:
        transport = paramiko.Transport(connection)
        transport.add_server_key(paramiko.Ed25519Key(filename=str(self.folder / "ssh_host_ed25519_key")))
        with suppress(paramiko.SSHException, EOFError, OSError):  # who only looks at the key goes away here
            transport.start_server(server=Session(self))

    def close(self) -> None:
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    @property
    def door(self) -> Door:
        return Door("127.0.0.1", self.port, "root", str(self.folder / "login"))


class Session(paramiko.ServerInterface):
    """One login."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        known = (self.machine.folder / "login.pub").read_text().split()[1]
        right = self.machine.let_in and key.get_base64() == known
        return paramiko.AUTH_SUCCESSFUL if right else paramiko.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        """The command starts once the answer to this request is on its way: a channel closed before that is an error."""
        transport = channel.get_transport()
        send = transport._send_user_message

        def send_and_run(message: paramiko.Message) -> None:
            transport._send_user_message = send
            send(message)
            threading.Thread(target=self._run, args=(channel, command), daemon=True).start()

        transport._send_user_message = send_and_run
        return True

    def _run(self, channel: paramiko.Channel, command: bytes) -> None:
        done = subprocess.run(["sh", "-c", command.decode()], capture_output=True, check=False)
        channel.sendall(done.stdout)
        channel.sendall_stderr(done.stderr)
        channel.send_exit_status(done.returncode)
        channel.close()
