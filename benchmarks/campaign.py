"""Campaigns: inputs a second here, by workers and on Ray, what storing costs, memory, and faults for real.

    python benchmarks/campaign.py [speed] [--count 10000]     MNIST images on mnist-net_256x4
    python benchmarks/campaign.py memory [--count 10000]      cheap rungs: what the largest process takes
    python benchmarks/campaign.py kills [--count 300]         50 kill -9 at random moments in one campaign
    python benchmarks/campaign.py full                        a full disk, where a tmpfs can be mounted

Rungs theorem, cell, relaxation, concentration and 1,000 samples an image at eps 1, no search. Before anything is
printed, the lines of all ways are held against each other, to the last bit. Time by the clock of the wall counts
what others do on the machine; processor time is printed beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from data import DATA, images, labels

from calotte import Settings, Sphere, load
from calotte.assess import Assessor
from calotte.campaign.outcome import Job, Task
from calotte.campaign.store import NAME, Store

MODEL = DATA / "mnistfc" / "mnist-net_256x4.onnx"
EPS, SAMPLES, RUNGS = 1.0, 1000, ["theorem", "cell", "relaxation", "concentration", "sampling"]
OPTIONS = ["--eps", str(EPS), "--samples", str(SAMPLES), "--rungs", ",".join(RUNGS), "--no-search"]
CHEAP = ["--samples", "100", "--rungs", "theorem,cell,sampling"]


def command(inputs: Path, folder: Path, *options: str) -> list[str]:
    """The command of a campaign; the last of two options counts."""
    return [
        sys.executable,
        "-m",
        "calotte",
        "assess",
        str(MODEL),
        str(inputs),
        *OPTIONS,
        "--out",
        str(folder),
        *options,
    ]


def lines(folder: Path) -> list[str]:
    """What a campaign says, without the seconds that it took."""
    text = (folder / "assessments.jsonl").read_text()
    return [re.sub(r'"seconds": [^,}]+|"run": "[^"]*"', "", line) for line in text.splitlines()]


@dataclass(frozen=True)
class Run:
    """What a campaign took: seconds by the clock and of processors, and the most bytes of one process."""

    wall: float
    cpu: float
    peak: int


def ran(line: list[str]) -> Run:
    """A campaign, to its end, in a process whose children are counted with it."""
    code = (
        "import json, resource, subprocess, sys, time\n"
        "start = time.monotonic()\n"
        "status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(json.dumps([status, time.monotonic() - start, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024]))"
    )
    said = subprocess.run([sys.executable, "-c", code, *line], stdout=subprocess.PIPE, text=True, check=True).stdout
    status, wall, cpu, peak = json.loads(said)
    if status:
        sys.exit(f"exit status {status} of {' '.join(line)}")
    return Run(wall, cpu, peak)


def save(count: int, path: Path) -> Path:
    """The first images and their labels as a file."""
    np.savez(path, x=images(count).numpy(), y=labels(count).numpy())
    return path


def speed(count: int) -> None:
    """All ways on the same images, and a tenth of them for what does not grow with their number."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole, tenth = save(count, folder / "whole.npz"), save(max(count // 10, 1), folder / "tenth.npz")
        ways = {"this process": [], "1 worker": ["--workers", "1"], "2 workers": ["--workers", "2"]}
        try:
            import ray  # noqa: F401

            ways["Ray, local"] = ["--ray", "local"]
        except ImportError:
            pass
        print(f"{count} images, {torch.get_num_threads()} thread(s), {os.cpu_count()} processors", flush=True)
        small, found, first = ran(command(tenth, folder / "tenth")), {}, None
        for way, options in ways.items():
            found[way] = run = ran(command(whole, folder / way, *options))
            first = first or lines(folder / way)
            if len(first) != count or lines(folder / way) != first:
                sys.exit(f"{way}: other lines")
            each = f"{count / run.wall:6.2f} inputs a second by the clock, {run.cpu / count:.4f} CPU-s each"
            print(f"{way:>14}: {each}", flush=True)
        more = count - max(count // 10, 1)
        new = found["this process"]
        print(f"without start-up: {(new.cpu - small.cpu) / more:.4f} CPU-s an input")
        print(
            f"the largest process took {small.peak / 1e6:.0f} MB for {count - more} inputs and "
            f"{new.peak / 1e6:.0f} MB for {count}, which are {784 * 8 * count / 1e6:.0f} MB of numbers themselves"
        )
        size = (folder / "this process" / NAME).stat().st_size
        print(f"the store: {size / count / 1e3:.1f} kB an input")
        storing(min(count, 200))
        large(size / count)


def memory(count: int) -> None:
    """What the process takes for a tenth of the images, and for all of them, read from a .npy file."""
    with tempfile.TemporaryDirectory() as name:
        folder, found = Path(name), []
        for some in (max(count // 10, 1), count):
            np.save(folder / "in.npy", images(some).double().numpy())
            found.append(ran(command(folder / "in.npy", folder / str(some), *CHEAP)))
            if len(lines(folder / str(some))) != some:
                sys.exit("inputs are missing")
        small, large = found
        more = count - max(count // 10, 1)
        print(
            f"theorem, cell, 100 samples: the largest process took {small.peak / 1e6:.0f} MB for {count - more} "
            f"inputs and {large.peak / 1e6:.0f} MB for {count}, {(large.peak - small.peak) / more / 1e3:.2f} kB for "
            f"each more, {784 * 8 / 1e3:.2f} of them pages of the file, which the system takes back when it has to; "
            f"{(large.cpu - small.cpu) / more:.4f} CPU-s an input"
        )


def storing(count: int) -> None:
    """What `Store.put` takes of the time of an input, with the points of witnesses in it."""
    network = load(MODEL)
    x, settings = network.inputs(images(count)), Settings(samples=SAMPLES)
    job = Job([Assessor(network, Sphere(EPS), rungs=RUNGS, settings=settings).assess], "0" * 64)
    work = store_wall = store_cpu = 0.0
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name, Store.in_folder(Path(name), {}) as store:
        for i in range(count):
            if i == count // 4:
                begun = peak()
            start = time.process_time()
            (outcome,) = job(Task(i, x[i].clone(), None))
            work += time.process_time() - start
            start, wall = time.process_time(), time.perf_counter()
            store.put(outcome)
            store_cpu, store_wall = store_cpu + time.process_time() - start, store_wall + time.perf_counter() - wall
    print(
        f"storing, with the search for misclassified points: {1e3 * store_wall / count:.2f} ms by the clock, "
        f"{1e3 * store_cpu / count:.2f} CPU-ms an input, of {1e3 * work / count:.0f} CPU-ms: "
        f"{100 * store_wall / work:.1f} %; memory grew by {(peak() - begun) / 1e6:.1f} MB over the last "
        f"{count - count // 4} of {count} inputs"
    )


def peak() -> int:
    """The most bytes that this process has taken."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def large(stored: float) -> None:
    """On paper: 1,000,000 images of ImageNet on a residual network of the size of ResNet-50.

    Cells as `benchmarks/cells.py` has them for 139,273 units; 1,000 forward passes of 4.1e9 multiplications each at
    the speed that float64 products have here; the other rungs are skipped for more than 6,000 hidden units.
    """
    a, b = torch.rand(2, 1000, 1000, dtype=torch.float64)
    start = time.process_time()
    for _ in range(20):
        a @ b
    each = 8.5 + SAMPLES * 4.1e9 * (time.process_time() - start) / 20 / 1e9
    hours = each * 1e6 / 3600
    print(
        f"1e6 inputs of 150,528 numbers: {each:.0f} CPU-s each, {hours:,.0f} processor hours, "
        f"{hours / (50 * 64):.0f} h on 50 machines of 64; {stored * 1e6 / 1e9:.1f} GB of lines, "
        f"{150_528 * 8 * 1e6 / 1e12:.1f} TB of inputs, and as much of witnesses (none with --no-search)"
    )


def kills(count: int, times: int = 50) -> None:
    """A campaign that is killed 50 times, and one that is not."""
    with tempfile.TemporaryDirectory() as name:
        folder, numbers = Path(name), random.Random(0)
        inputs = save(count, folder / "in.npz")
        start = time.monotonic()
        subprocess.run(command(inputs, folder / "whole"), check=True, capture_output=True)
        taken, torn, killed = time.monotonic() - start, set(), 0
        for _ in range(times):
            process = subprocess.Popen(
                command(inputs, folder / "torn"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            try:
                process.wait(numbers.uniform(0.0, 0.15 * taken))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                killed += 1
            if (folder / "torn" / "run.json").exists():
                with Store.to_read(folder / "torn") as store:
                    torn.add(len(store))
        subprocess.run(command(inputs, folder / "torn"), check=True, capture_output=True)
        if lines(folder / "torn") != lines(folder / "whole"):
            sys.exit("the campaign that was killed says something else")
        print(f"{killed} kill -9; {sorted(torn)} of {count} inputs finished after them; the same lines in the end")


def full() -> None:
    """A campaign on a disk of 250 kB, which becomes larger."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inputs, disk = save(60, folder / "in.npz"), folder / "disk"
        disk.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=250k", "tmpfs", disk], check=False).returncode:
            sys.exit("no tmpfs can be mounted here: nothing was tried")
        try:
            first = subprocess.run(command(inputs, disk / "res"), check=False, capture_output=True, text=True)
            with Store.to_read(disk / "res") as store:
                finished = len(store)
            subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
            subprocess.run(command(inputs, disk / "res"), check=True, capture_output=True)
            subprocess.run(command(inputs, folder / "whole"), check=True, capture_output=True)
            if first.returncode != 2 or lines(disk / "res") != lines(folder / "whole"):
                sys.exit("the full disk lost something")
            print(
                f"{finished} of 60 inputs fitted, then: {first.stderr.splitlines()[-1]}; the final lines are the same"
            )
        finally:
            subprocess.run(["umount", disk], check=True)


def main() -> None:
    """One of the four."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="?", default="speed", choices=["speed", "memory", "kills", "full"])
    parser.add_argument("--count", type=int)
    given = parser.parse_args()
    images(1)  # leaves where the data is absent
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    if given.what == "speed":
        speed(given.count or 10_000)
    elif given.what == "memory":
        memory(given.count or 10_000)
    elif given.what == "kills":
        kills(given.count or 300)
    else:
        full()


if __name__ == "__main__":
    main()
