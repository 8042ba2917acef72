"""The package: what importing it costs, and its public names."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import calotte

HEAVY = ("onnx", "onnxruntime", "onnxscript", "sklearn", "matplotlib", "ray")


def run(script):
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_import_brings_in_no_loader_and_no_plotting():
    assert run(f"import sys, calotte; print(*[name for name in {HEAVY} if name in sys.modules])") == []


def test_a_network_needs_no_loader():
    """Nor do random networks, and bounds on them."""
    script = (
        "import sys, torch, calotte\n"
        "network = calotte.random_network((3, 4, 2), torch.Generator().manual_seed(0))\n"
        "calotte.assess(network, torch.zeros(1, 3), calotte.Sphere(0.1), rungs=['theorem'])\n"
        f"print(*[name for name in {HEAVY} if name in sys.modules])"
    )
    assert run(script) == []


@pytest.mark.parametrize("name", calotte.__all__)
def test_public_names_are_there(name):
    assert getattr(calotte, name).__doc__
    assert name in dir(calotte)


def test_unknown_names_are_refused_as_usual():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = calotte.nothing


def test_the_version_is_that_of_the_project():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert calotte.__version__ == project["version"]
