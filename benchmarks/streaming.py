"""Streaming pruning against copying: time and peak memory on a checkpoint of Llama-3.2-3B's shape.

    python benchmarks/streaming.py DIRECTORY [--layers 28] [--rounds 3]

Writes random weights (6.4 GB at 28 layers) into DIRECTORY once. Then, in turn, prunes them to 40% in a
process of its own, and reads the source and copies the result with `cat` and `cp`. Prints medians and
their ratio, and the pruning process's peak resident memory. What earlier steps left to be written
is flushed before each timing: with a source just written, the first round once took 2.4 times as long.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from widthprune.architectures import meta_model, paper_config

# VmHWM, the largest resident size since exec, in kB. getrusage would start from the parent's.
PRUNE = """
import re, sys, time
from widthprune.checkpoints.stream import prune_checkpoint
start = time.perf_counter()
prune_checkpoint(sys.argv[1], sys.argv[2], pruning_pct=40, progress=False)
seconds = time.perf_counter() - start
print(seconds, int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1e6)
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    source = options.directory / f"llama-3.2-3b-{options.layers}-layers"
    if not source.exists():
        write_source(source, options.layers)
    result, copy = options.directory / "result", options.directory / "copy"
    times, peaks = {"prune": [], "copy": []}, []
    for _ in range(options.rounds):
        shutil.rmtree(result, ignore_errors=True)
        os.sync()
        command = [sys.executable, "-c", PRUNE, str(source), str(result)]
        seconds, peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        times["prune"].append(float(seconds))
        peaks.append(float(peak))
        shutil.rmtree(copy, ignore_errors=True)
        os.sync()
        start = time.perf_counter()
        subprocess.run(
            f"cat {source}/*.safetensors > /dev/null && cp -r {result} {copy}", shell=True, check=True
        )
        times["copy"].append(time.perf_counter() - start)
        shutil.rmtree(copy)
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    print(
        f"prune {medians['prune']:.1f} s, read and copy {medians['copy']:.1f} s, medians of {options.rounds}"
    )
    print("rounds:", {name: [round(second, 1) for second in seconds] for name, seconds in times.items()})
    print(f"ratio {medians['prune'] / medians['copy']:.2f}, peak resident memory {max(peaks):.2f} GB")


def write_source(source: Path, layers: int):
    """Random weights in one file per layer, as a large model is sharded."""
    config = paper_config("Llama-3.2-3B", num_hidden_layers=layers)
    scratch = source.with_suffix(".partial")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    config.save_pretrained(scratch)
    shards, weight_map = {}, {}
    for name, parameter in meta_model(config).named_parameters():
        shard = f"model-{name.split('.')[2]}.safetensors" if ".layers." in name else "model-rest.safetensors"
        shards.setdefault(shard, {})[name] = parameter.shape
        weight_map[name] = shard
    generator = torch.Generator().manual_seed(0)
    for shard, shapes in shards.items():
        tensors = {
            name: torch.empty(shape, dtype=torch.bfloat16).normal_(std=0.02, generator=generator)
            for name, shape in shapes.items()
        }
        save_file(tensors, scratch / shard, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": weight_map}
    (scratch / "model.safetensors.index.json").write_text(json.dumps(index))
    scratch.rename(source)


if __name__ == "__main__":
    main()
