"""How long a plan takes: `widthprune prune --dry-run` on a checkpoint of Llama-3.1-70B's shape.

    python benchmarks/planning.py [--rounds 5]

The files are sparse: true headers, and as much room as the weights would take, but no bytes on the disk,
which a plan does not read. Prints the median time of the whole command, Python's start included.
"""

import argparse
import json
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory) / "llama-70b"
        write_source(source)
        command = [sys.executable, "-m", "widthprune", "prune", str(source), "--out", f"{directory}/out"]
        command += ["--expansion-ratio", "2.4", "--dry-run"]
        seconds = []
        for _ in range(options.rounds):
            start = time.perf_counter()
            plan = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            seconds.append(time.perf_counter() - start)
    print(plan)
    print(f"{statistics.median(seconds):.2f} s, median of {options.rounds}")


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
