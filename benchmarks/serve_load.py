"""A real server on loopback under ten times what it can answer, with swaps meanwhile.

    python benchmarks/serve_load.py PACKAGE [--other PACKAGE] [--seconds 60] [--times 10]

In this order: latency with one client alone; capacity (clients that ask again at once, the best of
several numbers of them); half of the capacity; ``--times`` the capacity, at fixed moments whether
answered or not; the same for a third of the time with a swap and a rollback meanwhile. Each answer
is held against the logits that its version gave to its input alone. Latency is from the write of a
request to the arrival of the last byte of its answer, as the kernel stamps it: a busy client that
reads it late adds nothing. The clients run beside the server on the same
machine, which costs it time. A request whose moment comes while all connections wait for an answer
is not sent: it counts as unsent, and ``offered`` is what was sent.
"""

import argparse
import io
import json
import multiprocessing
import os
import selectors
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from tutelage.deployment.serving.model import ServedModel

RESULTS = Path(__file__).parent / "results" / "serve_load.jsonl"
_STAMPED = getattr(socket, "SO_TIMESTAMPNS", 35)
KINDS = 64  # different requests


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as spare:
        place = Path(spare)
        packages = [_unpacked(options.package, place / "one"), _other(options, place)]
        models = [ServedModel.load(package) for package in packages]
        requests, truth = _requests(models, options.body)
        served = place / "served"
        shutil.copytree(packages[0], served)
        process, port = _started(served, place)
        try:
            told = _measured(options, process.pid, port, requests, truth, served, packages)
        finally:
            process.terminate()
            told_code = process.wait(30)
    told["exit_status"] = told_code
    _print(told)
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a") as file:
        file.write(json.dumps(told) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("package", type=Path)
    parser.add_argument("--other", type=Path, help="a second version; made from the first if not")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--times", type=float, default=10.0, help="of the capacity")
    parser.add_argument("--processes", type=int, default=1, help="that send")
    parser.add_argument("--connections", type=int, default=64, help="of each")
    parser.add_argument("--body", choices=("npy", "json"), default="json")
    parser.add_argument("--quick", action="store_true", help="10 seconds")
    options = parser.parse_args()
    options.seconds = 10.0 if options.quick else options.seconds
    return options


def _measured(options, pid, port, requests, truth, served, packages) -> dict:
    _closed(port, requests, 1, 1.0)  # everything is warm
    before = _rss(pid)
    alone = _closed(port, requests, 1, 4.0)
    levels = {n: _closed(port, requests, n, 2.0)["good"] / 2.0 for n in (2, 3, 4, 8, 16)}
    capacity = max(levels.values())
    words = (options, port, requests, served, packages)
    half = _open(*words[:3], rate=capacity / 2, seconds=max(6.0, options.seconds / 6))
    warm = _rss(pid)
    used = _cpu(pid)
    full = _open(*words[:3], rate=capacity * options.times, seconds=options.seconds)
    used = _cpu(pid) - used
    swap = _open(*words, rate=capacity * options.times, seconds=max(6.0, options.seconds / 3))
    facts = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "body": options.body,
        "seconds": options.seconds,
        "capacity_per_second": round(capacity),
        "alone": _figures(alone, truth),
        "half": _figures(half, truth),
        "full": _figures(full, truth),
        "swap": _figures(swap, truth),
        "server_cpu_seconds": round(used, 1),
        "load_average": os.getloadavg()[0],
        "rss_mb": [round(each / 2**20, 1) for each in (before, warm, _rss(pid))],
    }
    facts["times_offered"] = round(facts["full"]["offered_per_second"] / capacity, 1)
    facts["p99_ratio"] = round(facts["full"]["p99_ms"] / facts["alone"]["p99_ms"], 2)
    return facts


def _figures(found: dict, truth: dict) -> dict:
    times = np.array(found["times"]) * 1000
    wrong, versions = 0, Counter()
    for number, body in found["answers"]:
        answer = json.loads(body)
        expected = truth[answer["version"]][number]
        logits = np.array(answer["predictions"][0]["logits"])
        versions[answer["version"]] += 1
        wrong += not np.abs(logits - expected).max() <= 1e-5 * np.abs(expected).max()
    p50, p99, p999 = np.quantile(times, (0.5, 0.99, 0.999)) if len(times) else (-1, -1, -1)
    statuses = found["statuses"]
    other = {k: v for k, v in statuses.items() if k not in ("200", "503")}
    return {
        "measured": len(times),
        "offered_per_second": round(sum(statuses.values()) / found["seconds"]),
        "answered_per_second": round(found["good"] / found["seconds"]),
        "p50_ms": round(float(p50), 2),
        "p99_ms": round(float(p99), 2),
        "p999_ms": round(float(p999), 2),
        "shed": statuses.get("503", 0),
        "shed_p99_ms": round(found["shed_p99"] * 1000, 2),
        "failed": sum(other.values()) + found["lost"],
        "unsent": found["unsent"],
        "checked": len(found["answers"]),
        "wrong": wrong,
        "versions": dict(versions),
    }


def _closed(port: int, requests: list[bytes], connections: int, seconds: float) -> dict:
    return _senders(port, requests, 1, connections, seconds, 0.0)


def _open(options, port, requests, served=None, packages=(), *, rate, seconds) -> dict:
    """Offer a rate; with packages, at a third of the time the second, at two thirds the first."""
    others = multiprocessing.get_context("fork").Process(
        target=_swaps, args=(served, packages, seconds / 3)
    )
    if packages:
        others.start()
    found = _senders(port, requests, options.processes, options.connections, seconds, rate)
    if packages:
        others.join()
        time.sleep(1.5)  # the rollback is seen
    return found


def _swaps(served: Path, packages: list[Path], pause: float) -> None:
    for package in (packages[1], packages[0]):
        time.sleep(pause)
        new, old = served.with_name("new"), served.with_name("old")
        shutil.copytree(package, new)
        served.rename(old)
        new.rename(served)
        shutil.rmtree(old)


def _senders(port, requests, processes, connections, seconds, rate) -> dict:
    context = multiprocessing.get_context("fork")
    ends, children = [], []
    for _ in range(processes):
        here, there = context.Pipe(duplex=False)
        words = (there, port, requests, connections, seconds, rate / processes)
        children.append(context.Process(target=_send, args=words))
        children[-1].start()
        ends.append(here)
    found = [end.recv() for end in ends]
    for child in children:
        child.join()
    sheds = [each["shed_p99"] for each in found]
    return {
        "seconds": seconds,
        "good": sum(each["good"] for each in found),
        "unsent": sum(each["unsent"] for each in found),
        "lost": sum(each["lost"] for each in found),
        "times": [t for each in found for t in each["times"]],
        "answers": [a for each in found for a in each["answers"]],
        "statuses": sum((each["statuses"] for each in found), Counter()),
        "shed_p99": max(sheds),
    }


def _send(pipe, port, requests, connections, seconds, rate) -> None:
    """One process that asks at fixed moments, or (rate 0) again as soon as it is answered."""
    client = Client(port, requests, connections)
    began = time.perf_counter()
    moment, sent, unsent = began, 0, 0
    while moment < began + seconds:
        due = int((moment - began) * rate) - sent if rate else len(client.free)
        for _ in range(due):
            if client.free:
                client.ask()
            else:
                unsent += 1
        sent += due
        pause = (sent + 1) / rate - (moment - began) if rate else 0.05
        client.collect(max(0.0, min(pause, 0.05)))
        moment = time.perf_counter()
    end = moment + 5.0
    while len(client.free) < connections - client.lost and time.perf_counter() < end:
        client.collect(0.05)
    lost = client.lost + connections - client.lost - len(client.free)
    shed = float(np.quantile(client.sheds, 0.99)) if client.sheds else 0.0
    facts = {"times": client.times, "answers": client.answers, "statuses": client.statuses}
    facts |= {"good": len(client.times), "unsent": unsent, "lost": lost, "shed_p99": shed}
    pipe.send(facts)


class Client:
    """Raw sockets that are kept open, one request on each at a time."""

    def __init__(self, port: int, requests: list[bytes], connections: int):
        self.requests, self.number = requests, os.getpid() % KINDS
        self.selector = selectors.DefaultSelector()
        self.free: deque[socket.socket] = deque()  # in turns: the server drops who stays silent
        self.asked: dict[socket.socket, tuple[int, int]] = {}
        self.parts: dict[socket.socket, bytes] = {}
        self.times: list[float] = []
        self.sheds: list[float] = []
        self.answers: list[tuple[int, bytes]] = []
        self.statuses: Counter = Counter()
        self.lost = 0
        for _ in range(connections):
            made = socket.create_connection(("127.0.0.1", port))
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made.setsockopt(socket.SOL_SOCKET, _STAMPED, 1)
            self.selector.register(made, selectors.EVENT_READ)
            self.free.append(made)

    def ask(self) -> None:
        """Send the next request on a free connection."""
        end, self.number = self.free.popleft(), (self.number + 1) % KINDS
        self.asked[end] = (time.time_ns(), self.number)
        end.sendall(self.requests[self.number])

    def collect(self, seconds: float) -> None:
        """Take what was answered; wait at most some seconds for the first."""
        for key, _ in self.selector.select(seconds):
            end = key.fileobj
            data, stamps, _, _ = end.recvmsg(65_536, 64)
            if not data:
                self.selector.unregister(end)
                self.lost += 1
                continue
            data = self.parts.pop(end, b"") + data
            head, found, body = data.partition(b"\r\n\r\n")
            if not found or len(body) < int(head.partition(b"content-length: ")[2].split(b"\r")[0]):
                self.parts[end] = data
                continue
            self._answered(end, data[9:12].decode(), body, _moment(stamps))

    def _answered(self, end: socket.socket, status: str, body: bytes, now: int) -> None:
        asked, number = self.asked.pop(end)
        took = (now - asked) / 1e9
        self.statuses[status] += 1
        self.free.append(end)
        if status == "200":
            self.times.append(took)
            self.answers.append((number, body))
        elif len(self.sheds) < 500_000:
            self.sheds.append(took)


def _moment(stamps: list) -> int:
    """When the last bytes reached this machine's network, nanoseconds: not when they were read."""
    if not stamps:  # the kernel begins to stamp a moment after it was asked to
        return time.time_ns()
    seconds, nanoseconds = struct.unpack("qq", stamps[-1][2])
    return seconds * 10**9 + nanoseconds


def _requests(models: list[ServedModel], body: str) -> tuple[list[bytes], dict]:
    ((name, stated),) = models[0].inputs.items()
    low, high = stated.range or (-1, 1)
    drawn = np.random.default_rng(0).uniform(low, high, (KINDS, *stated.shape))
    inputs = drawn.round(4).astype(stated.dtype)
    truth = {
        each.version: np.concatenate([each.answer({name: inputs[i : i + 1]}) for i in range(KINDS)])
        for each in models
    }
    return [_request(each, body) for each in inputs], truth


def _request(array: np.ndarray, body: str) -> bytes:
    if body == "json":
        numbers = [round(float(value), 4) for value in array.ravel()]
        nested = np.array(numbers).reshape(array.shape).tolist()
        content, kind, query = json.dumps({"inputs": nested, "logits": True}).encode(), "json", ""
    else:
        file = io.BytesIO()
        np.save(file, array)
        content, kind, query = file.getvalue(), "octet-stream", "?logits=1"
    head = (
        f"POST /v1/predict{query} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/{kind}"
        f"\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def _started(package: Path, place: Path) -> tuple[subprocess.Popen, int]:
    log = (place / "log").open("wb")
    command = [sys.executable, "-m", "tutelage", "serve", str(package), "--port", "0"]
    process = subprocess.Popen(command, stderr=log)
    for _ in range(300):
        for line in (place / "log").read_text().splitlines():
            if json.loads(line)["event"] == "serving":
                return process, int(json.loads(line)["url"].rpartition(":")[2])
        time.sleep(0.1)
    raise SystemExit("the server did not start: " + (place / "log").read_text())


def _unpacked(package: Path, target: Path) -> Path:
    if package.is_dir():
        return package
    shutil.unpack_archive(package, target)
    return target


def _other(options: argparse.Namespace, place: Path) -> Path:
    """Another version: the given one, or the first with other logits, packed anew."""
    if options.other:
        return _unpacked(options.other, place / "two")
    import onnx
    from onnx import numpy_helper

    from tutelage.deployment.manifest import MANIFEST, manifest_of

    shutil.copytree(_unpacked(options.package, place / "again"), place / "two")
    model = onnx.load(place / "two" / "student.onnx")
    name = model.graph.output[-1].name
    last = next(node for node in model.graph.node if name in node.output)
    last.output[list(last.output).index(name)] = f"{name}_before"
    labels = json.loads((place / "two" / "labels.json").read_text())["labels"]
    bias = np.linspace(-0.5, 0.5, len(labels), dtype=np.float32)
    model.graph.initializer.append(numpy_helper.from_array(bias, "other_bias"))
    added = onnx.helper.make_node("Add", [f"{name}_before", "other_bias"], [name])
    model.graph.node.append(added)
    onnx.save(model, place / "two" / "student.onnx")
    old = json.loads((place / "two" / MANIFEST).read_text())
    (place / "two" / MANIFEST).unlink()
    words = {"run": old["run"], "version": old["tutelage"], "date": old["date"]}
    (place / "two" / MANIFEST).write_text(json.dumps(manifest_of(place / "two", **words)))
    return place / "two"


def _rss(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _print(told: dict) -> None:
    print(
        f"{'':10}{'sent/s':>9}{'200/s':>8}{'p50 ms':>8}{'p99 ms':>8}{'shed':>10}{'failed':>8}"
        f"{'wrong':>7}{'unsent':>9}"
    )
    for name in ("alone", "half", "full", "swap"):
        row = told[name]
        print(
            f"{name:10}{row['offered_per_second']:>9}{row['answered_per_second']:>8}"
            f"{row['p50_ms']:>8}{row['p99_ms']:>8}{row['shed']:>10}{row['failed']:>8}"
            f"{row['wrong']:>7}{row['unsent']:>9}"
        )
    print(
        f"capacity {told['capacity_per_second']}/s, offered {told['times_offered']}x; "
        f"p99 {told['p99_ratio']}x; RSS {told['rss_mb']} MB; versions {told['swap']['versions']}"
    )
    print(json.dumps(told))


if __name__ == "__main__":
    main()
