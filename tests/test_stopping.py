"""Ctrl-C and SIGTERM in a command at work: one line, the shell's exit status, no process and no half file left."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from widthprune.reruns.rerun import _run

COMMANDS = {
    "evaluate": ["evaluate", "MODEL", "--pruning-pcts", "0", "20", "--results-dir", "OUT"],
    "rerun": ["rerun", "--model", "MODEL", "--ratios", "2.2", "1.8", "--out", "OUT/run"],
}


@pytest.mark.parametrize(("command", "number"), [("evaluate", signal.SIGINT), ("rerun", signal.SIGTERM)])
def test_a_command_at_work(command, number, language_model, tmp_path):
    words = [
        word.replace("MODEL", language_model).replace("OUT", str(tmp_path)) for word in COMMANDS[command]
    ]
    work = subprocess.Popen([sys.executable, "-m", "widthprune", *words], stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, text=True, cwd=tmp_path, start_new_session=True)  # fmt: skip
    deadline = time.monotonic() + 200
    while not list(tmp_path.rglob("*pct-*.json")) and work.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    started = psutil.Process(work.pid).children(recursive=True)
    work.send_signal(number)
    error = work.communicate(timeout=60)[1]
    assert work.returncode == 128 + number, error[-1000:]
    assert [line for line in error.splitlines() if line.startswith("widthprune: ")] == [
        f"widthprune: stopped by {number.name}: nothing half-written is left, and the same command goes on or starts again"
    ]
    assert "Traceback" not in error
    assert not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in started)
    assert not list(tmp_path.rglob("*.partial")) and (started or command == "evaluate")


def test_children_that_do_not_listen_are_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("widthprune.reruns.rerun.STOPPING_S", 0.5)
    deaf = tmp_path / "deaf.py"
    deaf.write_text(
        "import os, signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"os.kill({os.getpid()}, signal.SIGINT)\ntime.sleep(99)\n"
    )
    before = set(psutil.Process().children(recursive=True))  # such as the server of tests/processes.py
    with (tmp_path / "lock").open("w") as lock, pytest.raises(KeyboardInterrupt):
        _run(["sh", "-c", f"{sys.executable} {deaf} & wait"], lock.fileno())
    assert set(psutil.Process().children(recursive=True)) <= before
