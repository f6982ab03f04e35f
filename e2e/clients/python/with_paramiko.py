"""paramiko with the login certificate: commands, input, exit statuses, a terminal, SFTP, a forwarded connection."""

import hashlib
import os
import socket
import threading

import paramiko

env = os.environ
key = paramiko.Ed25519Key.from_private_key_file(env["SSH_KEY"])
key.load_certificate(env["SSH_CERTIFICATE"])
host, port = env["SSH_HOST"], int(env["SSH_PORT"])

client = paramiko.SSHClient()
# It knows no host certificates, but the key is the same.
words = env["SSH_HOST_KEY"].split()
client.get_host_keys().add(f"[{host}]:{port}", words[0], paramiko.PKey.from_type_string(words[0], __import__("base64").b64decode(words[1])))
client.set_missing_host_key_policy(paramiko.RejectPolicy())
client.connect(host, port, env["SSH_LOGIN"], pkey=key, allow_agent=False, look_for_keys=False, timeout=30)

_, out, err = client.exec_command("echo out; echo err >&2; exit 7")
print("command", out.read(), err.read(), out.channel.recv_exit_status())

data = os.urandom(3_000_000)
stdin, out, _ = client.exec_command("sha256sum")
stdin.write(data)
stdin.channel.shutdown_write()
print("input", out.read().split()[0].decode() == hashlib.sha256(data).hexdigest())

channel = client.get_transport().open_session()
channel.get_pty("xterm", 91, 33)
channel.exec_command("stty size; echo $TERM")
print("terminal", channel.makefile().read().split())

folder = env["SSH_SCRATCH"]
with client.open_sftp() as sftp:
    with sftp.open(f"{folder}/paramiko", "wb") as file:
        file.set_pipelined(True)
        file.write(data)
    sftp.rename(f"{folder}/paramiko", f"{folder}/moved")
    with sftp.open(f"{folder}/moved", "rb") as file:
        file.prefetch()
        print("sftp", file.read() == data, sftp.stat(f"{folder}/moved").st_size)
    sftp.remove(f"{folder}/moved")

listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=lambda: listener.accept()[0].sendall(b"through"), daemon=True).start()
forwarded = client.get_transport().open_channel("direct-tcpip", listener.getsockname(), ("127.0.0.1", 1))
print("forwarded", forwarded.recv(7))
client.close()
