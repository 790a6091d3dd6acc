"""Hub ids, the widest promise of the book: every command, online, offline, and with a commit pinned."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import logits, tiny_model
from hub_server import REPOSITORY, commit_of, serving
from huggingface_hub import constants
from walks import notebooks_that_measure, plan_rerun, walk_notebook, walk_rerun

from widthprune import WidthPruneError, load_model
from widthprune.__main__ import main
from widthprune.checkpoints.stream import prune_checkpoint
from widthprune.evaluation.readiness import check_ready
from widthprune.models.files import INDEX, WEIGHTS, weight_files
from widthprune.models.loading import local_directory, model_revision, model_shape
from widthprune.report.runs import read_run, result_files
from widthprune.reruns import steps
from widthprune.reruns.rerun import WORKFLOW
from widthprune.studies.stored import provenance

TESTS = str(Path(__file__).parent)
# In a process of its own: the hub's client reads its settings when it is imported.
WALK = """
import sys
from pathlib import Path
from walks import notebooks_that_measure, walk_notebook, walk_rerun
from widthprune.__main__ import main
from widthprune.checkpoints.stream import prune_checkpoint

def run(*arguments):
    assert main(list(arguments)) == 0, arguments

for name, out in zip(sys.argv[1::2], map(Path, sys.argv[2::2])):
    run("prune", name, "--pruning-pct", "20", "--out", str(out / "pruned"))
    few = ["--pruning-pcts", "20", "--results-dir", str(out / "results")]
    run("evaluate", name, "--tasks", "pocket_facts", "--limit", "2", *few)
    run("profile", name, "--workloads", "generated_latency_b1", "--protocols", "fixed", "--prompts", "1",
        "--max-new-tokens", "2", "--seeds", "0", "--no-energy", *few)
    run("rerun", "--model", name, "--ratios", "2.0", "--experiments", "capabilities", "--out", str(out / "run"),
        "--dry-run")
    walk_rerun(name, out / "run")
for chapter, cells in notebooks_that_measure().items():
    walk_notebook(cells, sys.argv[1], Path(sys.argv[2]) / "chapters" / chapter)
"""
# Chapters 1, 5 and 8 load no model: they read tables; 9 to 11 grow their own.
CHAPTERS = {"02_criteria", "03_capabilities", "04_truthfulness", "06_instruct", "07_controls"}
CHAPTERS |= {"12_criterion_or_width", "13_misconceptions"}


@pytest.fixture(scope="module")
def commits(language_model, tmp_path_factory):
    """Two versions of a tiny model, by the name of their branch; the old one's weights lie in a folder."""
    old = tmp_path_factory.mktemp("old") / "model"
    shutil.copytree(language_model, old)
    tiny_model(vocab_size=300, max_position_embeddings=2048, seed=1).save_pretrained(
        old, max_shard_size="50KB"
    )
    (old / "model.safetensors").unlink()
    index = json.loads((old / INDEX).read_text())
    index["weight_map"] = {name: f"shards/{file}" for name, file in index["weight_map"].items()}
    (old / INDEX).write_text(json.dumps(index))
    for folder, files in {"shards": old.glob("*.safetensors"), "onnx": []}.items():
        (old / folder).mkdir()
        for file in list(files):
            file.rename(old / folder / file.name)
    # The same weights again, which nobody needs, and a template, which the tokenizer reads.
    shutil.copy(Path(language_model) / "model.safetensors", old / "onnx")
    (old / "additional_chat_templates").mkdir()
    (old / "additional_chat_templates" / "rag.jinja").write_text("{{ messages }}")
    return {"main": Path(language_model), "old": old}


@pytest.fixture(scope="module")
def downloaded(commits, tmp_path_factory):
    """A cache that the hub's own client filled by every command, and what the commands wrote."""
    home, out = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("out")
    with serving(commits) as address:
        done = subprocess.run(
            [sys.executable, "-c", WALK, REPOSITORY, out, f"{REPOSITORY}@old", out / "old"],
            env=os.environ
            | {"HF_HOME": str(home), "HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0"}
            | {"PYTHONPATH": os.pathsep.join([TESTS, os.environ.get("PYTHONPATH", "")])},
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[1],
        )
    assert done.returncode == 0, done.stderr[-2000:]
    return home, out


def revisions(folder):
    of_results = {read_run(path)["settings"]["revision"] for path in result_files(folder)}
    return of_results | {provenance(path)["revision"] for path in folder.glob("studies/*.csv")}


def test_every_command_and_chapter_takes_a_hub_id_and_records_its_commit(downloaded):
    _, out = downloaded
    chapters = {path.name: path for path in (out / "chapters").iterdir()}
    assert chapters.keys() == CHAPTERS
    for folder in (out / "results", out / "run" / "results", *chapters.values()):
        assert revisions(folder) == {commit_of("main")}
    record = json.loads((out / "run" / "record.json").read_text())
    assert (record["parameters"]["model"], record["model_revision"]) == (REPOSITORY, commit_of("main"))
    assert (out / "pruned" / "model.safetensors").exists()


def test_a_pinned_commit_is_read_and_recorded(downloaded):
    _, out = downloaded
    assert (
        revisions(out / "old" / "results") == revisions(out / "old" / "run" / "results") == {commit_of("old")}
    )


def test_of_a_repository_the_files_of_its_model_are_fetched(downloaded):
    home, out = downloaded
    (snapshot,) = home.rglob(f"snapshots/{commit_of('old')}")
    assert {path.name for path in snapshot.iterdir() if path.is_dir()} == {
        "shards",
        "additional_chat_templates",
    }
    assert len(list((out / "old" / "pruned").rglob("shards/*.safetensors"))) > 1
    assert (out / "old" / "pruned" / "additional_chat_templates" / "rag.jinja").exists()


# Offline, in the layout that the client writes, and in one laid by hand, as a cluster's users copy it.


@pytest.fixture
def offline(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def by_hand(cache, folder, branch="main"):
    repository = cache / "models--acme--tiny"
    shutil.copytree(folder, repository / "snapshots" / commit_of(branch))
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / branch).write_text(commit_of(branch))


def reads(name, branch, folder):
    assert model_revision(name) == commit_of(branch)
    assert model_shape(name) == (88, 32)
    model, tokenizer = load_model(name)
    wanted, _ = load_model(str(folder))
    assert tokenizer and torch.equal(logits(model), logits(wanted))


def test_what_was_downloaded_is_found_again_offline(downloaded, commits, offline):
    shutil.copytree(downloaded[0] / "hub", offline, symlinks=True, dirs_exist_ok=True)
    reads(REPOSITORY, "main", commits["main"])
    reads(f"{REPOSITORY}@old", "old", commits["old"])


def test_a_cache_laid_by_hand_is_read(commits, offline):
    for branch, folder in commits.items():
        by_hand(offline, folder, branch)
    reads(REPOSITORY, "main", commits["main"])
    reads(f"{REPOSITORY}@old", "old", commits["old"])
    reads(f"{REPOSITORY}@{commit_of('old')}", "old", commits["old"])


def test_a_rerun_and_every_chapter_work_offline(commits, offline, tmp_path_factory):
    by_hand(offline, commits["main"])
    out = tmp_path_factory.mktemp("offline")
    walk_rerun(REPOSITORY, out / "run")
    assert revisions(out / "run" / "results") == {commit_of("main")}
    for chapter, cells in notebooks_that_measure().items():
        walk_notebook(cells, REPOSITORY, out / chapter)
        assert revisions(out / chapter) == {commit_of("main")}


def test_a_job_that_snakemake_starts_reads_the_pinned_commit(commits, offline, tmp_path_factory):
    """Here by the local profile; a cluster's hands the same command to its own machines."""
    by_hand(offline, commits["old"], "old")
    run = tmp_path_factory.mktemp("snakemake") / "run"
    name, *_ = plan_rerun(f"{REPOSITORY}@old", run)["jobs"]
    command = [sys.executable, "-m", "snakemake", "--snakefile", WORKFLOW / "Snakefile", "--directory", run]
    command += ["--workflow-profile", WORKFLOW / "profiles" / "local", "--cores", "1", f"jobs/{name}.json"]
    env = os.environ | {"HF_HUB_CACHE": str(offline), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(list(map(str, command)), env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert revisions(run / "measured") == {commit_of("old")}


def test_a_branch_that_moved_since_the_plan_is_told(commits, offline, tmp_path_factory, monkeypatch, capsys):
    by_hand(offline, commits["main"])
    by_hand(offline, commits["old"], "old")
    run = tmp_path_factory.mktemp("moved") / "run"
    name, *_ = plan_rerun(REPOSITORY, run)["jobs"]
    (offline / "models--acme--tiny" / "refs" / "main").write_text(commit_of("old"))
    monkeypatch.chdir(run)
    assert steps.main(["measure", "--job", name, "--threads", "1"]) == 1
    assert capsys.readouterr().err.endswith(
        "rerun: the model has changed since the plan was made: give the same command again\n"
    )
    assert not (run / "jobs").exists()


def test_a_hub_that_cannot_be_reached_leaves_the_cache(commits, offline, monkeypatch):
    by_hand(offline, commits["main"])
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    reads(REPOSITORY, "main", commits["main"])


def test_blobs_may_lie_on_another_disk(commits, offline, tmp_path_factory):
    by_hand(offline, commits["main"])
    snapshot, disk = local_directory(REPOSITORY), tmp_path_factory.mktemp("disk")
    for file in list(snapshot.iterdir()):
        shutil.move(file, disk / f"{file.name}-blob")
        file.symlink_to(f"../../blobs/{file.name}-blob")
    (snapshot.parents[1] / "blobs").symlink_to(disk)
    reads(REPOSITORY, "main", commits["main"])
    check_ready(REPOSITORY)


def test_a_cache_without_branches_names_its_commit(commits, offline):
    by_hand(offline, commits["main"])
    shutil.rmtree(offline / "models--acme--tiny" / "refs")
    pinned = f"{REPOSITORY}@{commit_of('main')}"
    for name in (REPOSITORY, f"{REPOSITORY}@{commit_of('main')[:8]}"):
        with pytest.raises(WidthPruneError, match=f"name what it holds, {pinned}"):
            local_directory(name)
    reads(pinned, "main", commits["main"])


def test_of_several_commits_the_one_that_begins_so_is_named(commits, offline):
    for branch, folder in commits.items():
        by_hand(offline, folder, branch)
    shutil.rmtree(offline / "models--acme--tiny" / "refs")
    both = sorted(f"{REPOSITORY}@{commit_of(branch)}" for branch in commits)
    for name in both:
        with pytest.raises(WidthPruneError, match=f"name what it holds, {name}$"):
            local_directory(name[:-32])
    with pytest.raises(WidthPruneError, match=f"name what it holds, {' or '.join(both)}$"):
        local_directory(REPOSITORY)


REFERENCES = [
    b"\xff\xfe\x80",
    b"",
    b"..",
    b"../../..",
    b"x" * 5000,
    b"\0",
    commit_of("main").encode() + b"\n",
]


@pytest.mark.parametrize(
    "content", [*REFERENCES, "a path", "a folder"], ids=lambda content: repr(content)[:12]
)
def test_a_cache_whose_branch_names_no_commit(content, commits, offline, tmp_path_factory):
    """Joined to the cache's own path, what stands there may be any folder's."""
    by_hand(offline, commits["main"])
    reference = offline / "models--acme--tiny" / "refs" / "main"
    if content == "a folder":
        reference.unlink()
        reference.mkdir()
    else:
        reference.write_bytes(str(commits["old"]).encode() if content == "a path" else content)
    out = tmp_path_factory.mktemp("out") / "pruned"
    for reads in (local_directory, check_ready, lambda name: prune_checkpoint(name, out, pruning_pct=20)):
        with pytest.raises(WidthPruneError) as caught:
            reads(REPOSITORY)
        assert str(caught.value) == (
            f"acme/tiny: the hub's cache is damaged, {reference} names no commit: remove it and download the model again "
            "(hf download acme/tiny)"
        )
    assert not out.exists()


@pytest.mark.parametrize("revision", ["/", "..", "../refs/main", "/etc/hostname", "a/../b", "a//b", "."])
def test_a_revision_that_would_be_looked_for_elsewhere(revision, commits, offline):
    by_hand(offline, commits["main"])
    with pytest.raises(WidthPruneError, match="is no branch, tag or commit: check what follows the @"):
        local_directory(f"{REPOSITORY}@{revision}")


SETTINGS = {
    "HF_HOME": ("FILE", "the hub's cache is to be .*: set HF_HOME to a folder that can be written"),
    "HF_TOKEN": ("hf_\u00e9", "set HF_TOKEN to the token as the hub shows it"),
    "HF_ENDPOINT": ("nonsense", "HF_ENDPOINT is 'nonsense': set it to an address"),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_settings_of_the_hubs_client_that_are_wrong(setting, commits, offline, tmp_path, monkeypatch):
    value, advice = SETTINGS[setting]
    with online(commits, monkeypatch):
        if setting == "HF_HOME":
            (offline / "file").touch()
            monkeypatch.setattr(constants, "HF_HUB_CACHE", str(offline / "file" / "hub"))
            monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(offline / "file" / "token"))
        elif setting == "HF_TOKEN":
            monkeypatch.setenv("HF_TOKEN", value)
        else:
            monkeypatch.setattr(constants, "ENDPOINT", value)
        with pytest.raises(WidthPruneError, match=f"^acme/tiny cannot be loaded .*{advice}") as caught:
            local_directory(REPOSITORY)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("branch", ["main", "old"])
def test_weights_that_the_cache_lacks_are_missed_before_any_work(branch, commits, offline):
    by_hand(offline, commits[branch], branch)
    check_ready(f"{REPOSITORY}@{branch}")
    snapshot = local_directory(f"{REPOSITORY}@{branch}")
    weights = snapshot / weight_files(snapshot)[-1]
    weights.unlink()
    weights.symlink_to("nowhere")  # as where a blob was deleted
    with pytest.raises(WidthPruneError, match=f"has no .*{weights.name}, its weights"):
        check_ready(f"{REPOSITORY}@{branch}")


def test_what_the_cache_lacks_is_said_in_one_line(commits, offline):
    by_hand(offline, commits["main"])
    with pytest.raises(WidthPruneError, match="acme/tiny@other: .* knows no such branch"):
        model_shape(f"{REPOSITORY}@other")
    (local_directory(REPOSITORY) / WEIGHTS).unlink()
    with pytest.raises(
        WidthPruneError, match="acme/tiny has no model.safetensors, its .*hf download acme/tiny"
    ):
        load_model(REPOSITORY)


def adapter_beside(folder):
    (folder / "adapter_config.json").write_text("{}")


def adapter_alone(folder):
    for file in folder.iterdir():
        file.unlink()
    adapter_beside(folder)


def gguf_alone(folder):
    for file in folder.iterdir():
        file.unlink()
    (folder / "tiny.Q8_0.gguf").write_bytes(b"GGUF")


def pickled(folder):
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")


NO_MODEL = {
    pickled: "from_pretrained('acme/tiny', revision='main', use_safetensors=False)",
    adapter_beside: "holds an adapter, not a model: merge it",
    adapter_alone: "holds an adapter, not a model: merge it",
    gguf_alone: "holds only GGUF weights: download the file, tiny.Q8_0.gguf, and name it",
}
COMMANDS = {
    "prune": ["--pruning-pct", "20", "--out", "out"],
    "evaluate": ["--tasks", "pocket_facts", "--limit", "2", "--pruning-pcts", "20"],
    "profile": ["--workloads", "generated_latency_b1", "--pruning-pcts", "20", "--no-energy"],
    "rerun": ["--ratios", "2.2"],
}


@contextlib.contextmanager
def online(commits, monkeypatch):
    """The hub at its usual place, as far as this process sees."""
    with serving(commits) as address:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield


@pytest.mark.parametrize("makes", NO_MODEL, ids=lambda makes: makes.__name__)
def test_a_repository_that_is_no_model_is_one_line(
    makes, commits, offline, tmp_path_factory, monkeypatch, capfd
):
    folder = shutil.copytree(commits["main"], tmp_path_factory.mktemp("no") / "model")
    makes(folder)
    monkeypatch.chdir(folder.parent)

    def refuses():
        for command, options in COMMANDS.items():
            model = ["--model", f"{REPOSITORY}@main"] if command == "rerun" else [f"{REPOSITORY}@main"]
            for dry in ([], ["--dry-run"]):
                assert main([command, *model, *options, *dry]) == 2
                error = capfd.readouterr().err
                assert NO_MODEL[makes] in error and error.count("\n") == 1, error

    with online({"main": folder}, monkeypatch):
        refuses()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    shutil.rmtree(offline / "models--acme--tiny")
    by_hand(offline, folder)
    refuses()
