"""llama.cpp's own server, started for a test."""

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

from tutelage.teachers.remote import Server


@contextmanager
def llama_server(python, gguf, log, *options, name):
    """A server of the model in ``gguf``, by an interpreter that has ``llama-cpp-python[server]``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [python, "-m", "llama_cpp.server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--model", str(gguf), "--model_alias", name, "--logits_all", "true", *options]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
    url, end = f"http://127.0.0.1:{port}", time.monotonic() + 120
    try:
        while True:
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < end, "the server does not start"
            try:
                urllib.request.urlopen(f"{url}/v1/models").close()
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.3)
        yield Server(url, name)
    finally:
        process.kill()
        process.wait()
