"""How long a plan takes: `widthprune prune --dry-run` on a checkpoint of Llama-3.1-70B's shape.

    python benchmarks/planning.py [--rounds 5]

The files are sparse: true headers, and as much room as the weights would take, but no bytes on the disk,
which a plan does not read; the disk is said to have room for the result. Prints the median time, by the clock and of the processor,
of the plan alone, from headers and config, and of the whole command, which also lets transformers build the pruned
model without weights; Python's start is included in both.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHAPE = dict(
    model_type="llama",
    architectures=["LlamaForCausalLM"],
    hidden_size=8192,
    intermediate_size=28672,
    num_hidden_layers=80,
    num_attention_heads=64,
    num_key_value_heads=8,
    head_dim=128,
    vocab_size=128256,
    tie_word_embeddings=False,
    dtype="bfloat16",
)

PLAN = """
import sys
from pathlib import Path
from widthprune.checkpoints.plans import make_plan, open_checkpoint
print(make_plan(open_checkpoint(Path(sys.argv[1])), "PPM", bytes_free=10**12, expansion_ratio=2.4)[0])
"""
DRY_RUN = """
import shutil, sys
from types import SimpleNamespace
from widthprune.__main__ import main
shutil.disk_usage = lambda place: SimpleNamespace(free=10**12)
sys.exit(main(["prune", sys.argv[1], "--out", sys.argv[2], "--expansion-ratio", "2.4", "--dry-run"]))
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory) / "llama-70b"
        write_source(source)
        for name, code in (("plan", PLAN), ("dry run", DRY_RUN)):
            by_clock, of_processor = [], []
            for _ in range(options.rounds):
                start, used = time.perf_counter(), processor_seconds()
                command = [sys.executable, "-c", code, str(source), f"{directory}/out"]
                plan = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                by_clock.append(time.perf_counter() - start)
                of_processor.append(processor_seconds() - used)
            print(plan)
            print(
                f"{name}: {statistics.median(by_clock):.2f} s by the clock, {statistics.median(of_processor):.2f} s "
                f"of processor time, medians of {options.rounds}"
            )


def processor_seconds():
    """What all child processes that ended have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def write_source(source: Path):
    source.mkdir()
    (source / "config.json").write_text(json.dumps(SHAPE))
    weight_map = {}
    for shard, tensors in shards().items():
        header, offset = {}, 0
        for name, shape in tensors.items():
            end = offset + 2 * shape[0] * (shape[1] if len(shape) == 2 else 1)
            header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]}
            weight_map[name], offset = shard, end
        text = json.dumps(header).encode()
        with (source / shard).open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(8 + len(text) + offset)
    index = {"metadata": {}, "weight_map": weight_map}
    (source / "model.safetensors.index.json").write_text(json.dumps(index))


def shards():
    """Names and shapes by file: one file a layer, and one for the rest."""
    hidden, size, vocabulary = SHAPE["hidden_size"], SHAPE["intermediate_size"], SHAPE["vocab_size"]
    keys = SHAPE["num_key_value_heads"] * SHAPE["head_dim"]
    rest = {
        "model.embed_tokens.weight": [vocabulary, hidden],
        "model.norm.weight": [hidden],
        "lm_head.weight": [vocabulary, hidden],
    }
    files = {"model-rest.safetensors": rest}
    layer = {
        "self_attn.q_proj": [hidden, hidden],
        "self_attn.k_proj": [keys, hidden],
        "self_attn.v_proj": [keys, hidden],
        "self_attn.o_proj": [hidden, hidden],
        "mlp.gate_proj": [size, hidden],
        "mlp.up_proj": [size, hidden],
        "mlp.down_proj": [hidden, size],
        "input_layernorm": [hidden],
        "post_attention_layernorm": [hidden],
    }
    for number in range(SHAPE["num_hidden_layers"]):
        files[f"model-{number}.safetensors"] = {
            f"model.layers.{number}.{name}.weight": shape for name, shape in layer.items()
        }
    return files


if __name__ == "__main__":
    main()
