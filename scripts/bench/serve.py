"""The benchmark of scripts/bench/serve, which builds the programs and calls this. Only Python's own library is needed.

Server and `extract` take turns within each round, and so do the single client and the two programs that time its parts, so that
a slow minute hits both. What counts are the ratios; the tables show medians.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import http_clients

CLIENTS = 16
# Clients and images at a time where there are more than the server takes.
TOO_MANY, ROOM = 64, 4
# Requests before anything is counted: connections, sessions for many images, caches.
WARM_UP = 256
# Requests of the single client, and those of them that are not counted.
ALONE, FIRST = 220, 20


def run(*command, cwd=None):
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    # 1 says that some images could not be read.
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

    def memory(self):
        """Resident memory in MiB."""
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        sys.exit("/proc says nothing of the server's memory")


def only_answers(statuses, allowed=(200,)):
    if set(statuses) - set(allowed):
        sys.exit(f"the server answered with other statuses than {allowed}: {statuses}")


class Bench:
    """A network with a head in a folder of its own."""

    def __init__(self, options, network, preprocess, folder):
        self.options, self.network, self.folder = options, network.resolve(), folder
        self.program = options.program.resolve()
        self.threads = len(os.sched_getaffinity(0))
        photos = sorted(path for path in options.photos.glob("*/*") if path.is_file())
        self.photos = [path.read_bytes() for path in photos]
        self.requests = [http_clients.post("/v1/classify", "image/jpeg", photo) for photo in self.photos]
        (folder / "data").symlink_to(options.photos.resolve())
        run(self.program, "models", "add", self.network, "--preprocess", preprocess, "--name", "bench", cwd=folder)
        self.extract()
        run(self.program, "fit-head", "--logistic", "features/bench.h5", "-o", "models/bench.head.h5", cwd=folder)

    def serve(self, *options):
        return Server(self.program, self.folder, *options)

    def extract(self):
        """Images a second of `extract`, by its own count: from the loaded network to the written file."""
        command = [self.program, "extract", "--force", "--log", "json", "-o", "features/bench.h5"]
        for line in run(*command, cwd=self.folder).stderr.splitlines():
            event = json.loads(line)
            if event.get("event") == "finished":
                return event["computed"] / event["seconds"]
        sys.exit("extract did not say how long it took")

    def throughput(self):
        """Images a second of `extract` and of the server with many clients, and what the clients took of a processor."""
        extracted = self.extract()
        with self.serve() as server:
            only_answers(http_clients.flood(server.port, self.requests, WARM_UP, CLIENTS)[2])
            count = 2 * len(self.requests)
            seconds, busy, statuses = http_clients.flood(server.port, self.requests, count, CLIENTS)
        only_answers(statuses)
        return {"extract": extracted, "server": count / seconds, "clients": busy / seconds}

    def alone(self):
        """Milliseconds of a request of a single client, of a forward run on all processors, and of decoding a photo."""
        with self.serve() as server:
            client, times = http_clients.Client(server.port), []
            for number in range(ALONE):
                begin = time.perf_counter()
                only_answers([client.ask(self.requests[number % len(self.requests)])])
                times.append(1e3 * (time.perf_counter() - begin))
        forward = run(self.options.forward, self.network, "penultimate", 1, self.threads, 110).stdout
        with tempfile.TemporaryDirectory() as folder:
            for number in range(FIRST, ALONE):
                (pathlib.Path(folder) / f"{number}.jpg").write_bytes(self.photos[number % len(self.photos)])
            decode = json.loads(run(self.options.pixels, folder, 1, 5).stdout)
        return {
            "client": statistics.median(times[FIRST:]),
            "forward": statistics.median(json.loads(forward)["milliseconds"][10:]),
            "decode": 1e3 * statistics.median(decode["seconds"]) / decode["photos"],
        }

    def beyond_capacity(self):
        """How often each status came while there were more images than the server takes."""
        with self.serve("--max-images", str(ROOM)) as server:
            statuses = http_clients.flood(server.port, self.requests, 20_000, TOO_MANY)[2]
        only_answers(statuses, (200, 503))
        return statuses

    def memory(self):
        """MiB after each tenth of the requests."""
        step, found = self.options.requests // 10, []
        with self.serve() as server:
            for _ in range(10):
                only_answers(http_clients.flood(server.port, self.requests, step, CLIENTS)[2])
                found.append(server.memory())
        return found


def processor():
    found = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.processor()


def table(head, rows):
    return "\n".join([f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {' | '.join(row)} |" for row in rows)])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    for name in ("program", "forward", "pixels", "photos"):
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    parser.add_argument("--network", action="append", required=True, metavar="FILE.onnx=PRESET", help="may be given several times")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=10_000, help="over which memory is watched, with the first network")
    parser.add_argument("--write", type=pathlib.Path, help="a file for the tables")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    median = lambda rounds, pick: statistics.median(pick(found) for found in rounds)
    throughput, latency = [], []
    for number, argument in enumerate(options.network):
        network, _, preprocess = argument.rpartition("=")
        network = pathlib.Path(network)
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(options, network, preprocess, pathlib.Path(folder))
            many, alone = [], []
            for _ in range(options.rounds):
                many.append(bench.throughput())
                print({key: round(value, 3) for key, value in many[-1].items()}, flush=True)
                alone.append(bench.alone())
                print({key: round(value, 3) for key, value in alone[-1].items()}, flush=True)
            ratios = [found["server"] / found["extract"] for found in many]
            throughput.append([
                network.stem, f"{median(many, lambda found: found['server']):.1f}", f"{median(many, lambda found: found['extract']):.1f}",
                f"**{statistics.median(ratios):.2f}**", f"{min(ratios):.2f} to {max(ratios):.2f}",
                f"{100 * median(many, lambda found: found['clients']):.0f} %",
            ])
            ratios = [found["client"] / (found["forward"] + found["decode"]) for found in alone]
            latency.append([
                network.stem, *(f"{median(alone, lambda found: found[key]):.2f}" for key in ("client", "forward", "decode")),
                f"**{statistics.median(ratios):.2f}**", f"{min(ratios):.2f} to {max(ratios):.2f}",
            ])
            print(throughput[-1], latency[-1], flush=True)
            if number == 0:
                statuses, memory = bench.beyond_capacity(), bench.memory()
                print(statuses, [round(found, 1) for found in memory], flush=True)
    first, photos, threads = pathlib.Path(options.network[0].rpartition("=")[0]).stem, len(bench.photos), bench.threads
    text = f"""# The server, measured

Measured on {datetime.date.today()} by `scripts/bench/serve` on {threads} processors ({processor()}), {platform.system()}, {photos} photos, medians of
{options.rounds} rounds; load before it began {load:.2f}. Server, clients and `extract` share the processors; within a round they take turns with
what they are compared with. The ratios are those of each round.

## Many clients

{CLIENTS} clients on loopback, each of which asks `POST /v1/classify` again once it has its answer, beside `extract` from the same
photos to HDF5. The clients are one thread that sends prepared bytes; the last column says what they took of one processor.

{table(["network", "server, images/s", "`extract`, images/s", "ratio", "of the rounds", "clients"], throughput)}

## One client

Milliseconds of a request, from the first byte sent to the last byte received, beside what it waits for: a forward run of the
loaded network on all processors, and the decoding of a photo on one.

{table(["network", "request", "forward", "decode", "request / (forward + decode)", "of the rounds"], latency)}

## Beyond capacity

{TOO_MANY} clients and `--max-images {ROOM}`, with {first}: {", ".join(f"{count} answers {status}" for status, count in sorted(statuses.items()))}, and no other.

## Memory

Resident MiB of one server after so many requests by {CLIENTS} clients, with {first}; from the first column to the last {100 * (memory[-1] / memory[0] - 1):+.1f} %.

{table([f"{(index + 1) * options.requests // 10:,}" for index in range(10)], [[f"{found:.1f}" for found in memory]])}
"""
    if options.write:
        options.write.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
