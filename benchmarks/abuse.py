"""Kills and races: what the commands leave behind when they are stopped, or run twice at once.

    python benchmarks/abuse.py [--only prune contribute evaluate rerun] [--kills 25] [--races 40] [--rerun-races 20]

Every command is stopped by SIGINT, SIGTERM and SIGKILL by turns, at random moments, every second time only
after it has written something; then it is run again. Prints one line of counts for each command: runs that
had ended before their signal, files that were half-written or wrong, results that were lost (measured again),
runs that left something behind which a signal lets them clean up, tracebacks, and reruns after which all was
as if nothing had happened; what was not is told in a line. Models are tiny and made here. A rerun is of one
small notebook and ends before its book is rendered, which is Sphinx's work. A whole rerun
takes minutes on a busy machine: give it small counts, and other --seed for more.
"""

import argparse
import contextlib
import hashlib
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import nbformat
import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
COUNTS = ("kills", "ended before", "wrong", "lost", "leftovers", "tracebacks", "healed")
TASKS = ("pocket_facts", "pocket_misconceptions_mc1", "pocket_prose")
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "widthprune.checkpoints.loaded",
        "widthprune.evaluation.evaluate",
        "widthprune.evaluation.engine.prefix_lm",
    ]
)
END = 0  # the token that ends a text
# As the local profile, but without the book.
PROFILE = "cores: 2\nrerun-incomplete: true\nkeep-going: true\nuntil: [collect]\n"
NOTEBOOK = """
from widthprune import load_results
assert len(load_results(results_dir))
"""


def write_model(folder: Path, **sizes) -> Path:
    """A random Llama that reads any text, byte by byte, and ends each answer at once, since writing takes long."""
    torch.manual_seed(0)
    shape = dict(vocab_size=300, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048)
    model = AutoModelForCausalLM.from_config(LlamaConfig(**shape, **sizes))
    with torch.no_grad():
        model.get_input_embeddings().weight[:, 0] = 0.3  # of every text, so that the end's row can rely on it
        model.get_output_embeddings().weight[END] = torch.eye(model.config.hidden_size)[0]
    model.save_pretrained(folder, max_shard_size="4MB")
    tokenizer = Tokenizer(
        BPE({letter: i for i, letter in enumerate(["</s>", *sorted(ByteLevel.alphabet())], END)}, [])
    )
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>").save_pretrained(folder)
    return folder


def write_project(work: Path) -> list[str]:
    """Options of a rerun whose clone holds one small notebook, and that renders no book."""
    cells = [
        nbformat.v4.new_code_cell(
            'model = ""\npruning_pcts = []\nratios = []\ncriteria = []\nresults_dir = "results"',
            metadata={"tags": ["parameters"]},
        ),
        nbformat.v4.new_code_cell(NOTEBOOK.strip()),
    ]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    (work / "project" / "notebooks").mkdir(parents=True)
    nbformat.write(notebook, work / "project" / "notebooks" / "03_capabilities.ipynb")
    (work / "profile").mkdir()
    (work / "profile" / "config.yaml").write_text(PROFILE)
    return [
        "--project",
        str(work / "project"),
        "--profile",
        str(work / "profile"),
        "--experiments",
        "capabilities",
    ]


def make_commands(work: Path) -> dict[str, list[str]]:
    """Words of each command; FOLDER stands for a folder of its own, which must not hold anything else."""
    large = write_model(work / "large", hidden_size=128, intermediate_size=2048, num_hidden_layers=12)
    small = write_model(work / "small", hidden_size=32, intermediate_size=88, num_hidden_layers=3)
    evaluate = ["evaluate", str(small), "--tasks", *TASKS, "--limit", "3", "--pruning-pcts", "0", "40"]
    rerun = ["rerun", "--model", str(small), "--ratios", "2.2", "--limit", "2", *write_project(work)]
    return {
        "prune": ["prune", str(large), "--out", "FOLDER/out", "--pruning-pct", "40"],
        "evaluate": [*evaluate, "--results-dir", "FOLDER"],
        # What evaluate measured undisturbed.
        "contribute": ["contribute", str(work / "evaluate"), "--name", "Ada", "--results-dir", "FOLDER"],
        "rerun": [*rerun, "--out", "FOLDER/run"],
    }


def start(words: list[str], folder: Path, stderr: str = os.devnull):
    """The command line in a process group of its own, as a shell's, with its imports done."""
    words = [word.replace("FOLDER", str(folder)) for word in words]
    child = CONTEXT.Process(target=_command, args=(words, str(stderr)))
    child.start()
    with contextlib.suppress(ProcessLookupError):
        while os.getpgid(child.pid) != child.pid:  # the group that a kill is sent to
            time.sleep(0.001)
    return child


def _command(words: list[str], stderr: str) -> None:
    from widthprune.__main__ import main

    os.setsid()
    for descriptor, name in ((1, os.devnull), (2, stderr)):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), descriptor)
    sys.exit(main(words))


def run(words: list[str], folder: Path) -> int:
    child = start(words, folder)
    child.join()
    return child.exitcode


def time_run(words: list[str], folder: Path) -> tuple[float, float]:
    """Seconds until a run writes something, and from then to its end."""
    begun = time.perf_counter()
    child = start(words, folder)
    wait_for_writing(child, folder)
    written = time.perf_counter()
    child.join()
    if child.exitcode:
        sys.exit(f"this does not work undisturbed: widthprune {' '.join(words)}")
    return written - begun, time.perf_counter() - written


def wait_for_writing(child, folder: Path) -> None:
    while child.is_alive() and not any(folder.iterdir()):
        time.sleep(0.002)


def contents(folder: Path) -> dict[str, str]:
    """What must be the same in every run, by path: of measured results all but what the machine did.

    Raises
    ------
    ValueError
        If a results file is not whole.
    """
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder)
        if (
            name.parts[0] == "run" and name.parts[1] != "results"
        ):  # Snakemake's own, records, cells with times
            continue
        content = path.read_bytes()
        if path.suffix == ".json" and b'"provenance"' in content:
            content = json.dumps({**json.loads(content), "provenance": None}).encode()
        found[str(name)] = hashlib.sha256(content).hexdigest()
    return found


def times(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*.json") if "/run/" not in str(path)}


def kill(words, folder: Path, expected: dict, seconds, number: int, wait: bool, moments) -> Counter:
    """Stop one run at a random moment, look, run it again, and look again."""
    counts, stderr = Counter(kills=1), folder.with_suffix(".stderr")
    folder.mkdir()
    child = start(words, folder, stderr)
    if wait:
        wait_for_writing(child, folder)
    child.join(moments.uniform(0, seconds[1] if wait else sum(seconds)))
    counts["ended before"] = ended = not child.is_alive()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)
    child.join()
    counts["tracebacks"] = "Traceback" in stderr.read_text()
    counts["wrong"] = not is_part(folder, expected)
    if number != signal.SIGKILL:
        counts["leftovers"] = any(is_scratch(path.name) for path in folder.rglob("*"))
    before = times(folder)
    again = run(words, folder)
    counts["lost"] = any(times(folder).get(name) != moment for name, moment in before.items())
    found = contents(folder)
    # What is there whole is refused by prune and contribute, and that is right.
    counts["healed"] = found == expected and (again == 0 or ended or before == times(folder))
    if not counts["healed"]:
        differ = sorted(name for name in found | expected if found.get(name) != expected.get(name))
        print(f"{folder.name}, {signal.Signals(number).name}: status {again}, {differ[:3]}", file=sys.stderr)
    return counts


def is_part(folder: Path, expected: dict) -> bool:
    """Whether all that has its final name is as it should be."""
    try:
        found = {name: hash for name, hash in contents(folder).items() if not is_scratch(name)}
    except ValueError:
        return False
    return found.items() <= expected.items()


def is_scratch(name: str) -> bool:
    return any(
        part.startswith(".widthprune-") or part.endswith((".partial", ".tmp")) for part in Path(name).parts
    )


def race(words, folder: Path, expected: dict, moments) -> Counter:
    """Two at once on one destination: one works, one is refused, and the result is right."""
    folder.mkdir()
    pair = [start(words, folder)]
    time.sleep(moments.uniform(0, 0.05))
    pair.append(start(words, folder))
    for child in pair:
        child.join()
    status = sorted(child.exitcode for child in pair)
    right = contents(folder) == expected
    return Counter({"races": 1, "one wrote": status == [0, 2], "right": right})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = ("prune", "contribute", "evaluate", "rerun")
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--kills", type=int, default=25, help="of each command; default 25")
    parser.add_argument("--races", type=int, default=40, help="of two prune; default 40")
    parser.add_argument("--rerun-races", type=int, default=20, help="of two rerun; default 20")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped: the counts are of what was done"))
    moments = random.Random(options.seed)
    print("".join(f"{column:>14}" for column in ("", *COUNTS)), flush=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        work = Path(directory)
        commands = make_commands(work)
        needed = {*options.only, *(["evaluate"] if "contribute" in options.only else [])}
        run(["--help"], work)  # starts the server of processes, which imports everything once
        for name, words in commands.items():
            if name in needed:
                (work / name).mkdir()
                seconds, expected = time_run(words, work / name), contents(work / name)
            if name in options.only:
                abuse_one(name, words, work, expected, seconds, options, moments)


def abuse_one(name, words, work: Path, expected: dict, seconds, options, moments) -> None:
    """The kills and the races of one command; prints what was counted, also when it is stopped."""
    counts, races = Counter(), Counter()
    try:
        for i in range(options.kills):
            number = SIGNALS[i % 3]
            counts += kill(words, work / f"{name}-{i}", expected, seconds, number, i % 2, moments)
        for i in range({"prune": options.races, "rerun": options.rerun_races}.get(name, 0)):
            races += race(words, work / f"{name}-race-{i}", expected, moments)
    finally:
        cells = (name, *(counts[column] for column in COUNTS))
        print("".join(f"{cell:>14}" for cell in cells), flush=True)
        if races:
            print(f"{name}: {dict(races)}", flush=True)


if __name__ == "__main__":
    main()
