"""Campaigns: what the store takes and gives back, what becomes of inputs that fail, and workers that are lost."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import weakref
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from shell import run, same, stored
from torch import Tensor

from calotte.adversary import Witness
from calotte.assessment import Assessment
from calotte.campaign.cluster import on_ray
from calotte.campaign.outcome import Job, Outcome, Task
from calotte.campaign.store import Store
from calotte.campaign.workers import here as in_this_process
from calotte.campaign.workers import in_processes
from calotte.errors import CalotteError, InvalidInput
from calotte.inputs import read_inputs
from calotte.report.files import write_whole

ASSESS = "assess net.onnx in.npz --eps 0.2 --rungs theorem,cell,sampling --samples 300"


@dataclass(frozen=True)
class Answer:
    """A result that says little."""

    index: int
    witness: Witness | None = None

    def to_dict(self) -> dict[str, Any]:
        distance = None if self.witness is None else self.witness.distance
        return {"index": self.index, "run": None, "adversarial_distance": distance, "process": os.getpid()}


class Deadly:
    """Work that kills its process at input 1 the first time, and at one input every time."""

    def __init__(self, folder: Path, always: int) -> None:
        self.folder, self.always = folder, always

    def __call__(self, x: Tensor, index: int, label: int | None, watch: object) -> Answer:
        tried = self.folder / str(index)
        if index == self.always or (index == 1 and not tried.exists()):
            tried.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        assert x.tolist() == [index]
        assert torch.get_num_threads() == 1
        return Answer(index)


def tasks(count: int) -> list[Task]:
    return [Task(i, torch.tensor([float(i)]), None) for i in range(count)]


def ignored(index: int, step: str) -> None:
    """No progress is shown."""


def test_a_store_gives_back_what_it_took(tmp_path: Path) -> None:
    point = torch.tensor([0.1, -0.0, 1e-300], dtype=torch.float64)
    for store in (Store.for_now(), Store.in_folder(tmp_path / "a", {"command": "x", "eps": 0.1})):
        with store:
            store.put(Outcome(7, {"index": 7, "adversarial_distance": 0.25}, Witness(point, 0.25, 2), size=1))
            store.put(Outcome(3, {"index": 3, "failed": "refused", "reason": "é"}, None, "refused"))
            assert (len(store), (7, 1) in store, (7, 0) in store) == (2, True, False)
            assert [json.loads(line)["index"] for line in store.lines(failed=True)] == [3]
            assert [key for key, _ in store.results()] == [(7, 1)]
            assert [json.loads(line)["index"] for line in store.lines([(7, 1), (7, 0), (5, 0), (3, 0)])] == [7, 3]
            found = store.witness((7, 1))
            assert found is not None
            assert (found.distance, found.answer, store.witness((3, 0))) == (0.25, 2, None)
            assert found.point.numpy().tobytes() == point.numpy().tobytes()
    with Store.to_read(tmp_path / "a") as store:
        assert [json.loads(line)["index"] for line in store.lines()] == [3, 7]
        assert store.description == {"command": "x", "eps": 0.1}
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        ".campaign.lock",
        "campaign.sqlite",
        "run.json",
    ]


def test_inputs_that_were_lost_are_tried_again_and_no_others(tmp_path: Path) -> None:
    job = Job([lambda *_: Answer(0)])
    with Store.in_folder(tmp_path, {}) as store:
        store.put(job.failed((1, 0), "lost", "killed"))
        store.put(job.failed((2, 0), "contradiction", "no"))
        store.put(job.failed((3, 0), "defect", "oops"))
    with Store.in_folder(tmp_path, {}) as store:
        assert [json.loads(line)["index"] for line in store.lines()] == [2, 3]


def test_a_campaign_can_be_read_while_it_goes_on(tmp_path: Path) -> None:
    with Store.in_folder(tmp_path, {}) as store:
        store.put(Outcome(0, {"index": 0}))
        with Store.to_read(tmp_path) as reader:
            assert list(reader.lines([(0, 0)])) == ['{"index": 0}']
            store.put(Outcome(1, {"index": 1}))
            assert len(reader) == 2
            with pytest.raises(CalotteError):
                reader.put(Outcome(2, {"index": 2}))
        with pytest.raises(InvalidInput, match="another process is at work"):
            Store.in_folder(tmp_path, {})
    with pytest.raises(InvalidInput, match="holds no campaign"):
        Store.to_read(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("error", "failure"),
    [(InvalidInput("no answer"), "refused"), (ZeroDivisionError("oops"), "defect"), (OSError(28, "full"), None)],
)
def test_a_failing_input_is_an_outcome_and_the_others_go_on(error: Exception, failure: str | None) -> None:
    def work(x: Tensor, index: int, label: int | None, watch: object) -> Answer:
        if index == 1:
            raise error
        return Answer(index)

    outcomes = in_this_process(Job([work], "run"), tasks(3), ignored)
    if failure is None:
        assert next(outcomes).index == 0
        with pytest.raises(OSError, match="full"):
            next(outcomes)
        return
    found = list(outcomes)
    assert [one.failure for one in found] == [None, failure, None]
    assert all(one.line["run"] == "run" for one in found)
    assert str(error) in found[1].line["reason"]


def test_the_task_of_a_lost_worker_is_tried_once_more(tmp_path: Path) -> None:
    found = {one.index: one for one in in_processes(Job([Deadly(tmp_path, 2)]), tasks(3), ignored, count=1)}
    assert sorted(found) == list(range(3))
    assert [index for index, one in found.items() if one.failure] == [2]
    assert found[2].failure == "lost"
    assert "exit status -9" in found[2].line["reason"]
    assert os.getpid() not in {one.line.get("process") for one in found.values()}


class Endless:
    """Work that says in which process it is done, and goes on for long."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __call__(self, x: Tensor, index: int, label: int | None, watch: object) -> Answer:
        write_whole(self.place, lambda part: part.write_text(str(os.getpid())))
        time.sleep(120)
        return Answer(index)


def runs(process: int) -> bool:
    """Whether a process is at work, not merely waiting to be buried."""
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc to look at processes in")
def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    place = tmp_path / "process"

    def parent() -> None:
        list(in_processes(Job([Endless(place)]), tasks(1), ignored, count=1))

    process = multiprocessing.get_context("fork").Process(target=parent)
    process.start()
    while process.is_alive() and not place.exists():
        time.sleep(0.01)
    process.kill()
    process.join()
    worker, deadline = int(place.read_text()), time.monotonic() + 60
    while runs(worker):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_lost_worker_of_ray_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    found = {one.index: one for one in on_ray(Job([Deadly(tmp_path, -1)], "run"), tasks(3), ignored, "local")}
    assert {index: one.failure for index, one in found.items()} == dict.fromkeys(range(3))
    assert (tmp_path / "1").exists(), "a worker was killed"
    assert {one.line["run"] for one in found.values()} == {"run"}
    assert os.getpid() not in {one.line.get("process") for one in found.values()}


def test_an_input_without_an_answer_is_told_at_the_end(here: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    x = np.load(here / "in.npz")["x"]
    x[2] = 1.7e308 * np.sign(np.random.default_rng(5).standard_normal(6))  # as the first unit's weights: it overflows
    np.save(here / "far.npy", x)
    line = "assess net.onnx far.npy --eps 0.2 --rungs cell --no-search --json --out res"
    for _ in range(2):  # as it goes on, it says the same
        status, out, err = run(capsys, monkeypatch, line)
        assert status == 2
        assert [json.loads(text).get("failed") for text in out.splitlines()] == [None] * 2 + ["refused"] + [None] * 4
        assert "calotte: input 2: the network's outputs there are not finite" in err.splitlines()[-1]
    assert json.loads((here / "res" / "failures.jsonl").read_text())["index"] == 2
    assert run(capsys, monkeypatch, f"{line} --index 2")[0] == 2
    alone = run(capsys, monkeypatch, "assess net.onnx far.npy --eps 0.2 --rungs cell --no-search --index 2")
    assert (alone[0], alone[1]) == (2, "")


def test_workers_say_what_one_process_says_and_stop_when_told(here: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """Ctrl-C in the middle, which reaches all processes; then the same command, with other workers, ends it."""
    line = f"{ASSESS.replace('300', '60000')} --json --out"
    whole = run(capsys, monkeypatch, f"{line} whole")[1]
    command = [sys.executable, "-m", "calotte", *f"{line} res --workers 2".split()]
    process = subprocess.Popen(
        command,
        cwd=here,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # in the background it may be ignored
    )
    while process.poll() is None and not stored(here / "res"):
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert 0 < stored(here / "res") == out.count("\n") < 7
    assert f"interrupted: {stored(here / 'res')} of 7 inputs are finished" in err
    assert all(text in whole.splitlines() or same(text) in map(same, whole.splitlines()) for text in out.splitlines())
    status, out, err = run(capsys, monkeypatch, f"{line} res")
    assert status == 0, err
    assert [same(text) for text in out.splitlines()] == [same(text) for text in whole.splitlines()]


def test_memory_holds_no_more_than_is_shown(here: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """Of 300 inputs at two sizes few tasks, outcomes and results are there at once; the inputs stay in their file."""
    np.save(here / "many.npy", np.random.default_rng(6).standard_normal((300, 6)))
    assert isinstance(read_inputs(here / "many.npy").x, np.memmap)
    alive: dict[type, list[weakref.ref[Any]]] = {Assessment: [], Outcome: [], Task: []}
    most: Counter[type] = Counter()

    def counted(self: Any, *arguments: Any, **entries: Any) -> None:
        kind = type(self)
        made[kind](self, *arguments, **entries)
        alive[kind] = [one for one in alive[kind] if one() is not None] + [weakref.ref(self)]
        most[kind] = max(most[kind], len(alive[kind]))

    made: dict[type, Any] = {kind: kind.__init__ for kind in alive}
    for kind in alive:
        monkeypatch.setattr(kind, "__init__", counted)
    line = "assess net.onnx many.npy --eps 0.2,0.1 --rungs cell --no-search --out res --require p<=0.1"
    status, out, err = run(capsys, monkeypatch, line)
    assert status == 3, err
    assert "30 of 300" in out
    assert stored(here / "res") == 600
    assert all(0 < most[kind] < 40 for kind in alive), most
    for line in ("export res a.csv", "export res a.parquet", "export res a.tex"):
        assert run(capsys, monkeypatch, line)[0] == 0
    assert most[Assessment] < 40, "30 rows are shown"


def test_workers_that_make_no_sense(here: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    for options, said in (("--workers 0", "at least 1"), ("--workers 2 --ray auto", "either")):
        status, out, err = run(capsys, monkeypatch, f"{ASSESS} {options}")
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert said in err
    monkeypatch.setitem(sys.modules, "ray", None)
    status, out, err = run(capsys, monkeypatch, f"{ASSESS} --ray auto")
    assert (status, out) == (2, "")
    assert "pip install 'calotte[ray]'" in err
    assert importlib.import_module("calotte.campaign.cluster")
