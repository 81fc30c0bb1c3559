"""The benchmark of scripts/bench/serve, which builds the programs and calls this. Only Python's own library is needed."""

import argparse
import http.client
import itertools
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

CLIENTS = 16
# Requests before anything is counted: connections, sessions for many images, caches.
WARM_UP = 64


def run(*command, cwd=None):
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        sys.exit(f"{' '.join(map(str, command))} failed: {done.stderr}")
    return done


class Server:
    """A running `cnncodes serve`."""

    def __init__(self, program, folder, *options):
        command = [program, "serve", "--head", "models/bench.head.h5", "--port", "0", *options]
        self.process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        self.port = int(line.split("localhost:")[1].split("/")[0])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()

    def client(self):
        return http.client.HTTPConnection("127.0.0.1", self.port)

    def memory(self):
        """Resident memory in MiB."""
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        sys.exit("/proc says nothing of the server's memory")


def classify(client, image):
    client.request("POST", "/v1/classify", image, {"Content-Type": "image/jpeg"})
    answer = client.getresponse()
    answer.read()
    return answer.status


def flood(server, images, requests, clients=CLIENTS):
    """Sends so many requests by several clients; seconds, and how often each status came."""
    order, lock, statuses = itertools.count(), threading.Lock(), {}

    def work():
        client, mine = server.client(), {}
        while (number := next(order)) < requests:
            status = classify(client, images[number % len(images)])
            mine[status] = mine.get(status, 0) + 1
        with lock:
            for status, count in mine.items():
                statuses[status] = statuses.get(status, 0) + count

    threads = [threading.Thread(target=work) for _ in range(clients)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begin, statuses


def extract(program, folder, layer):
    """Images a second of `extract`, by its own count."""
    command = [program, "extract", "--force", "--log", "json", "-o", "features/bench.h5"]
    log = run(*command, *(["--layer", layer] if layer else []), cwd=folder).stderr
    for line in log.splitlines():
        event = json.loads(line)
        if event.get("event") == "finished":
            return event["computed"] / event["seconds"]
    sys.exit("extract did not say how long it took")


def main():
    parser = argparse.ArgumentParser()
    for name in ("program", "forward", "pixels", "photos", "network"):
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    parser.add_argument("--preprocess", required=True)
    parser.add_argument("--layer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=10_000)
    options = parser.parse_args()
    program = options.program.resolve()
    threads = len(os.sched_getaffinity(0))
    photos = sorted(path for path in options.photos.glob("*/*") if path.is_file())
    images = [path.read_bytes() for path in photos]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "data").symlink_to(options.photos.resolve())
        run(program, "models", "add", options.network.resolve(), "--preprocess", options.preprocess, "--name", "bench", cwd=folder)
        extract(program, folder, options.layer)
        run(program, "fit-head", "--logistic", "features/bench.h5", "-o", "models/bench.head.h5", cwd=folder)
        head = json.loads(run(program, "extract", "--dry-run", "--log", "json", *(["--layer", options.layer] if options.layer else []), cwd=folder).stderr.splitlines()[-1])
        layer = options.layer or head.get("layer") or head.get("layers", [{}])[0].get("layer")
        print(f"{len(images)} photos, {threads} threads, {options.network.name}")

        # In turns, because machines change their speed.
        ratios, latencies = [], []
        for _ in range(options.rounds):
            by_extract = extract(program, folder, options.layer)
            with Server(program, folder) as server:
                flood(server, images, WARM_UP)
                seconds, statuses = flood(server, images, len(images))
                by_server = len(images) / seconds
                ratios.append(by_server / by_extract)
                print(f"{CLIENTS} clients {by_server:.1f} images/s, extract {by_extract:.1f}: {ratios[-1]:.3f}  {statuses}")
            with Server(program, folder) as server:
                client, times = server.client(), []
                for image in images[: min(200, len(images))]:
                    begin = time.perf_counter()
                    classify(client, image)
                    times.append(1e3 * (time.perf_counter() - begin))
            one = statistics.median(times[20:])
            forward = run(options.forward, options.network.resolve(), layer or "penultimate", 1, threads, 60).stdout
            forward = statistics.median(json.loads(forward)["milliseconds"][10:])
            with tempfile.TemporaryDirectory() as decoded:
                for number, image in enumerate(images[:200]):
                    (pathlib.Path(decoded) / f"{number}.jpg").write_bytes(image)
                pixels = json.loads(run(options.pixels, decoded, 1, 3).stdout)
            seconds = pixels["seconds"] if isinstance(pixels, dict) else pixels
            decode = 1e3 * min(seconds) / min(200, len(images))
            latencies.append(one / (forward + decode))
            print(f"one client {one:.1f} ms, forward {forward:.1f} + decode {decode:.1f} ms: {latencies[-1]:.2f}")

        with Server(program, folder, "--max-images", "4") as server:
            _, statuses = flood(server, images, 2000, clients=64)
            print(f"64 clients with --max-images 4: {statuses}")
        with Server(program, folder) as server:
            flood(server, images, options.requests // 10)
            before = server.memory()
            _, statuses = flood(server, images, options.requests)
            after = server.memory()
            print(f"memory after {options.requests // 10} requests {before:.1f} MiB, after {options.requests} more {after:.1f} MiB: "
                  f"{100 * (after / before - 1):+.1f} %  {statuses}")
        print(f"throughput ratio {statistics.median(ratios):.3f}, latency ratio {statistics.median(latencies):.2f}")


main()
