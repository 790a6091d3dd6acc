"""A directory written as a transaction: races, signals, kills, and what is not ours stays."""

import contextlib
import os
import random
import shutil
import signal
import time

import pytest
import torch
from conftest import tiny_model
from processes import start
from safetensors.torch import save_file

from widthprune import WidthPruneError
from widthprune.checkpoints import destination
from widthprune.checkpoints.destination import check_destination, moved_into_place, sweep
from widthprune.checkpoints.loaded import prune_loaded
from widthprune.checkpoints.stream import prune_checkpoint
from widthprune.models.saving import saving

# Both ways to prune: tensor by tensor, and by way of the model in memory.
WAYS = {"stream": ["--criterion", "PPM"], "memory": ["--criterion", "ACT", "--calibration-sequences", "4"]}


@pytest.fixture(scope="module")
def source(language_model, tmp_path_factory):
    """A model that takes some tenths of a second: a signal then falls into the work."""
    folder = tmp_path_factory.mktemp("larger") / "source"
    shutil.copytree(language_model, folder)
    (folder / "model.safetensors").unlink()
    tiny_model(
        vocab_size=300,
        max_position_embeddings=2048,
        hidden_size=64,
        intermediate_size=2048,
        num_hidden_layers=8,
    ).save_pretrained(folder, max_shard_size="3MB")
    return folder


def started(source, out, way="stream", stderr="stderr"):
    arguments = ["prune", str(source), "--out", str(out), "--pruning-pct", "40", *WAYS[way]]
    return start(arguments, out.parent / stderr)


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def lines(path):
    return [line for line in path.read_text().splitlines() if line.startswith("widthprune: ")]


@pytest.mark.parametrize("way", WAYS)
def test_stopped_at_any_moment_nothing_is_left_and_a_rerun_heals(way, source, tmp_path):
    out, moments = tmp_path / "out", random.Random(0)
    started(source, out, way).join()
    whole = content(out)
    shutil.rmtree(out)
    stopped = 0
    for number in [signal.SIGINT, signal.SIGKILL, signal.SIGTERM] * (2 if way == "stream" else 1):
        old = set(tmp_path.glob(".widthprune-*/model"))  # of a kill
        child = started(source, out, way)
        while child.is_alive() and not set(tmp_path.glob(".widthprune-*/model")) - old:
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.05))
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.kill(child.pid, number)
        child.join()
        if out.exists():  # it had ended
            assert content(out) == whole
            shutil.rmtree(out)
        elif number == signal.SIGKILL:
            assert child.exitcode == -number
            stopped += 1
        else:
            assert child.exitcode == 128 + number
            assert (
                len(lines(tmp_path / "stderr")) == 1 and "Traceback" not in (tmp_path / "stderr").read_text()
            )
            assert {path.name for path in tmp_path.iterdir()} == {"stderr"}
            stopped += 1
    assert stopped, "every run ended before its signal: the test saw nothing"
    started(source, out, way).join()
    assert content(out) == whole and {path.name for path in tmp_path.iterdir()} == {"stderr", "out"}


def test_of_two_that_write_one_destination_exactly_one_does(source, tmp_path):
    prune_checkpoint(source, tmp_path / "alone", pruning_pct=40, progress=False)
    for number in range(10):
        out = tmp_path / f"{number}" / "out"
        out.parent.mkdir()
        pair = [started(source, out, stderr=name) for name in ("one", "two")]
        for child in pair:
            child.join()
        assert sorted(child.exitcode for child in pair) == [0, 2]
        refused = lines(out.parent / ("one" if pair[0].exitcode else "two"))
        assert len(refused) == 1 and ("another process" in refused[0] or "exists already" in refused[0])
        assert content(out) == content(tmp_path / "alone")
        assert {path.name for path in out.parent.iterdir()} == {"out", "one", "two"}


@pytest.mark.parametrize("prune", [prune_checkpoint, lambda *args, **kw: prune_loaded(*args, "ACT", **kw)])
def test_a_destination_that_is_being_written(prune, source, tmp_path, monkeypatch):
    monkeypatch.setattr(destination, "PATIENCE_S", 0)
    with (
        moved_into_place(tmp_path / "new" / "out"),
        pytest.raises(WidthPruneError, match="is being written by another process"),
    ):
        prune(source, tmp_path / "new" / "out", pruning_pct=40, progress=False)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]


def test_what_dead_processes_left_goes_before_the_disk_is_measured(source, tmp_path, monkeypatch):
    scratch, seen = [], []
    for out in ("out", "other"):
        with moved_into_place(tmp_path / out) as folder:
            scratch.append(folder)
        shutil.rmtree(tmp_path / out)
    for folder in scratch:  # as a kill leaves it
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(bytes(1000))
        (tmp_path / f"{folder.parent.name.rpartition('-')[0]}.lock").touch()
    usage = shutil.disk_usage

    def disk_usage(place):
        seen.extend(path.name for path in tmp_path.iterdir())
        return usage(place)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    prune_checkpoint(source, tmp_path / "out", pruning_pct=40, progress=False)
    assert seen == [] and [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_is_not_ours_stays(tmp_path):
    with moved_into_place(tmp_path / "out") as folder:
        key = folder.parent.name.rpartition("-")[0]
    shutil.rmtree(tmp_path / "out")
    theirs = [".out.partial", f"{key}-mine", f"{key}-{'0' * 32}"]
    for name in theirs:
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.txt").write_text("years of work")
    (tmp_path / f"{key}.lock").touch()
    sweep(tmp_path / "out")
    with moved_into_place(tmp_path / "out"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"out", *theirs}
    assert all((tmp_path / name / "thesis.txt").exists() for name in theirs)


def test_a_destination_that_appears_meanwhile_is_not_replaced(tmp_path):
    with pytest.raises(WidthPruneError, match="exists already"), moved_into_place(tmp_path / "out"):
        (tmp_path / "out").mkdir()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_folders_made_for_nothing_go_again(tmp_path):
    with pytest.raises(ZeroDivisionError), moved_into_place(tmp_path / "a" / "b" / "out"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


BAD = {
    "a long name": ("x" * 300, "File name too long"),
    "a null byte": ("a\0b", "null byte"),
    "below a file": ("file/out", "Not a directory"),
    "a link to nowhere": ("link", "exists already"),
    "a device": ("/dev/null/out", "Not a directory"),
    "no disk": ("/proc/out", "cannot be written"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_destination_that_cannot_be_written_is_found_before_the_work(case, tmp_path):
    name, message = BAD[case]
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(WidthPruneError, match=message) as caught:
        check_destination(tmp_path / name, tmp_path / "source")
    assert "\n" not in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "link"}


def test_a_disk_that_fills_up_is_what_is_named_and_not_the_source(language_model, tmp_path, full_disk):
    with pytest.raises(
        WidthPruneError, match=f"^{tmp_path}/out cannot be written .*{full_disk}.*: make room"
    ):
        prune_loaded(language_model, tmp_path / "out", "ACT", pruning_pct=30, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_what_safetensors_cannot_write_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError, match="out"), saving(tmp_path / "out"):
        save_file({"a": torch.zeros(1)}, tmp_path / "no folder" / "file")


def test_a_name_as_long_as_the_disk_takes(tmp_path):
    with moved_into_place(tmp_path / ("x" * 255)) as folder:
        (folder / "file").touch()
    assert [len(path.name) for path in tmp_path.iterdir()] == [255]
