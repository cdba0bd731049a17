"""An S3 of this machine: moto's server in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from command_line import wait_until

KEYS = {"AWS_ACCESS_KEY_ID": "of-a-test", "AWS_SECRET_ACCESS_KEY": "of-a-test", "AWS_DEFAULT_REGION": "us-east-1"}
SERVER = """
import sys
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer("127.0.0.1", 0)
server.start()
print(f"port {server.get_host_and_port()[1]}", flush=True)
sys.stdin.read()
"""


class S3:
    """A server, the variables that name it, and buckets.

    Parameters
    ----------
    folder
        For its output.
    """

    def __init__(self, folder: Path):
        self._log = folder / "s3.log"
        with open(self._log, "wb") as log:
            command = [sys.executable, "-c", SERVER]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
        wait_until(lambda: re.search(r"port \d+", self._log.read_text()), self._process)
        port = re.search(r"port (\d+)", self._log.read_text())
        assert port is not None
        self.variables = {**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port[1]}"}

    def put(self, folder: Path, bucket: str, path: str) -> str:
        """Copy a folder into a bucket and return its URL."""
        import s3fs

        files = s3fs.S3FileSystem(use_listings_cache=False)
        files.makedirs(bucket, exist_ok=True)
        files.put(str(folder), f"{bucket}/{path}", recursive=True)
        return f"s3://{bucket}/{path}"

    def requests(self) -> list[str]:
        """Return the lines that the server has written of requests so far."""
        return [line for line in self._log.read_text().splitlines() if " HTTP/" in line]

    def stop(self) -> None:
        """End the server."""
        self._process.kill()
        self._process.wait()
