"""Pruning in memory against optipfair 0.4.2 and against cloning the kept weights, Llama-3.2-1B's shape.

    python benchmarks/in_memory.py [--rounds 5]

Random weights in bfloat16, 40%. In each round, in turn: this package, optipfair on a deep copy of the
model made beforehand, and a clone of the kept MLP weights. Prints medians and ratios, whether the kept
neurons are the same, and the memory that the pruned model adds. The clone's time depends on whether the
allocator has used memory at hand (0.08 s on one machine) or must get new pages (0.36 s), so the last ratio
swings with it.
"""

import argparse
import copy
import logging
import statistics
import time

import optipfair
import torch
from transformers import AutoModelForCausalLM

from widthprune import prune_model, score_neurons
from widthprune.architectures import paper_config
from widthprune.mlps import find_mlps, input_weights


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    logging.getLogger("optipfair").setLevel(logging.ERROR)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(paper_config("Llama-3.2-1B"), dtype=torch.bfloat16).eval()
    times = {"widthprune": [], "optipfair": [], "clone": []}
    for round_ in range(options.rounds + 1):
        if round_ == 1:
            # The first round paid for memory that the machine had not handed out before.
            times = {name: [] for name in times}
        ours = theirs = other = clones = None
        ours = timed(times["widthprune"], lambda: prune_model(model, pruning_pct=40))
        other = copy.deepcopy(model)
        theirs = timed(times["optipfair"], lambda other=other: optipfair_prune(other))
        weights = mlp_weights(ours)
        clones = timed(times["clone"], lambda weights=weights: [weight.clone() for weight in weights])
        assert len(clones) == len(weights)
    median = {name: statistics.median(seconds) for name, seconds in times.items()}
    print(
        ", ".join(f"{name} {seconds:.2f} s" for name, seconds in median.items()),
        f"medians of {options.rounds}",
    )
    print(f"optipfair / widthprune {median['optipfair'] / median['widthprune']:.1f}")
    print(f"widthprune / clone {median['widthprune'] / median['clone']:.2f}")
    # Ties at the cut are frequent in bfloat16 and optipfair leaves their order open: compare what was kept by score.
    mlps = find_mlps(ours)
    same = sum(torch.equal(kept_scores(ours, mlp), kept_scores(theirs, mlp)) for mlp in mlps)
    print(f"{same} of {len(mlps)} layers keep neurons of the same scores")
    shared = {tensor.data_ptr() for tensor in model.parameters()}
    added = sum(p.nbytes for p in ours.parameters() if p.data_ptr() not in shared)
    print(
        f"added {added / 1e9:.3f} GB, kept MLP weights {sum(w.nbytes for w in mlp_weights(ours)) / 1e9:.3f} GB"
    )


def optipfair_prune(model):
    return optipfair.prune_model(
        model,
        pruning_type="MLP_GLU",
        neuron_selection_method="MAW",
        pruning_percentage=40,
        show_progress=False,
    )


def kept_scores(model, mlp):
    return score_neurons(*input_weights(model, mlp)).sort().values


def mlp_weights(model):
    return [model.get_parameter(part.tensor) for mlp in find_mlps(model) for part in mlp.parts]


def timed(seconds, work):
    start = time.perf_counter()
    result = work()
    seconds.append(time.perf_counter() - start)
    return result


if __name__ == "__main__":
    main()
