"""What is installed is what the repository holds: a wheel of a clean clone, at work elsewhere."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from genre_utils.sources.sample import draw_poster

pytestmark = pytest.mark.skipif(
    not (ROOT / ".git").exists(), reason="the wheel is built from a clone, and this is none"
)


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command that knows nothing of this repository; returns what it printed."""
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=variables, capture_output=True, text=True
    )
    assert not done.returncode, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clone") / "poster-genres"
    run("git", "clone", "--quiet", "--depth", "1", ROOT.as_uri(), folder, cwd=ROOT)
    return folder


@pytest.fixture(scope="module")
def wheel(clone) -> Path:
    build = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
    run(*build, "--wheel-dir", clone.parent, clone, cwd=clone.parent)
    (built,) = clone.parent.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel) -> Path:
    """An environment of its own: the wheel, and the packages that it needs from this one."""
    folder = wheel.parent / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=wheel.parent)
    python = next(folder.glob("[bS][ic][nr]*/python*"))
    install = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps")
    run(*install, "--no-index", wheel, cwd=wheel.parent)
    (packages,) = folder.glob("[lL]ib/**/site-packages")
    # The line of a .pth file adds a folder, but not what the .pth files in that folder add: an
    # editable installation of this repository stays out.
    here = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (packages / "needed.pth").write_text("\n".join(here), "utf-8")
    return python.parent


def test_a_wheel_holds_the_package_with_its_data_and_nothing_else(clone, wheel):
    tracked = run("git", "ls-files", "genre_utils", cwd=clone).splitlines()
    names = zipfile.ZipFile(wheel).namelist()
    described = [name for name in names if ".dist-info/" in name]
    assert sorted(set(names) - set(described)) == sorted(tracked)
    assert {Path(name).parts[1] for name in tracked} >= {"released", "weights", "splits"}
    metadata = next(name for name in described if name.endswith("/METADATA"))
    needed = zipfile.ZipFile(wheel).read(metadata).decode()
    for requirement in (clone / "requirements.txt").read_text("utf-8").split():
        assert f"Requires-Dist: {requirement}\n" in needed


def test_the_installed_command_predicts_a_poster_from_a_foreign_folder(environment, tmp_path):
    where = "import genre_utils; print(genre_utils.__file__)"
    installed = Path(run(environment / "python", "-c", where, cwd=tmp_path).strip())
    assert environment.parent.resolve() in installed.resolve().parents
    draw_poster(["Horror"], np.random.default_rng(0)).save(tmp_path / "night.jpg")
    printed = run(environment / "poster-genres", "predict", "night.jpg", cwd=tmp_path)
    assert printed.count("night.jpg") == 3, "the three likeliest genres"
