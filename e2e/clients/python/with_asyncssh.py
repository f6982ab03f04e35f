"""asyncssh with the login certificate and the host's own certificate: many commands at once, SFTP, forwarding, signals."""

import asyncio
import os

import asyncssh

env = os.environ


async def main() -> None:
    async with asyncssh.connect(
        env["SSH_HOST"],
        int(env["SSH_PORT"]),
        username=env["SSH_LOGIN"],
        client_keys=[(env["SSH_KEY"], env["SSH_CERTIFICATE"])],
        known_hosts=env["SSH_KNOWN_HOSTS"],
        host_key_alias=env["SSH_HOST_ALIAS"],
        agent_path=None,
        config=None,
    ) as connection:
        done = await connection.run("echo out; echo err >&2; exit 7")
        print("command", done.stdout, done.stderr, done.exit_status)
        results = await asyncio.gather(*(connection.run(f"cat; exit {n}", input="x" * 100_000) for n in range(6)))
        print("at once", [(len(r.stdout), r.exit_status) for r in results])
        killed = await connection.run("kill -9 $$")
        print("signal", killed.exit_signal[0] if killed.exit_signal else None)
        data = os.urandom(3_000_000)
        folder = env["SSH_SCRATCH"]
        async with connection.start_sftp_client() as sftp:
            async with sftp.open(f"{folder}/asyncssh", "wb") as file:
                await file.write(data)
            async with sftp.open(f"{folder}/asyncssh", "rb") as file:
                print("sftp", await file.read() == data)
            print("listed", "asyncssh" in await sftp.listdir(folder))
        listener = await connection.forward_remote_port("127.0.0.1", 0, "127.0.0.1", int(env["SSH_ECHO_PORT"]))
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.get_port())
        writer.write(b"through")
        writer.write_eof()
        print("forwarded", await reader.read())


asyncio.run(main())
