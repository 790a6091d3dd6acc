"""The workflows: they ask for no more rights than they need, and run commands that exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def zizmor(folder):
    tool = Path(sys.executable).parent / "zizmor"
    command = [str(tool), "--offline", "--no-progress", str(folder)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_linter_finds_nothing_and_finds_what_is_wrong(tmp_path):
    done = zizmor(ROOT / ".github" / "workflows")
    assert done.returncode == 0, done.stdout
    folder = tmp_path / ".github" / "workflows"
    folder.mkdir(parents=True)
    text = (ROOT / ".github" / "workflows" / "tests.yml").read_text()
    (folder / "tests.yml").write_text(re.sub(r"@[0-9a-f]{40}", "@main", text))
    assert zizmor(folder).returncode != 0


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_target_is_in_the_makefile(path):
    jobs = yaml.safe_load(path.read_text())["jobs"].values()
    runs = [step["run"] for job in jobs for step in job["steps"] if "run" in step]
    targets = {target for run in runs for target in re.findall(r"make ([\w-]+)", run)}
    known = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert targets <= known and all(
        job["timeout-minutes"] for job in jobs if "runs-on" in job and "needs" not in job
    )
