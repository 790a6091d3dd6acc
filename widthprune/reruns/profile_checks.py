"""What can be wrong with a profile from elsewhere: its numbers must agree with each other."""

import math
from collections.abc import Iterator, Mapping

from ..efficiency.meter import PARTS
from ..efficiency.workloads import WORKLOADS

TOLERANCE = 0.02  # of sums of times, which are taken by two clocks


def wrong_profile(run: Mapping) -> Iterator[str]:
    """A line for each setting that no run of `widthprune profile` can have, beyond what the schema refuses."""
    settings = run["settings"]
    if settings["task"] not in WORKLOADS:
        yield f"settings.task must be one of {', '.join(WORKLOADS)}, got {settings['task']!r}"


def wrong_numbers(run: Mapping) -> Iterator[str]:
    """A line for each number that its unit or the other numbers rule out.

    Throughput is tokens over the summed times; the fixed protocol gives every prompt
    ``max_new_tokens``; joules add up over their parts, net is at most gross, and joules per token are
    joules over the same tokens: emissions read as energy fail here.
    """
    settings, value = run["settings"], {row["metric"]: row["value"] for row in run["metrics"]}
    needed = ("ttft_ms_p50", "ttlt_ms_p50", "ttft_ms_mean", "ttlt_ms_mean", "new_tokens", "throughput_tok_s")
    if absent := [name for name in needed if name not in value]:
        yield f"metrics: lacks {', '.join(absent)}"
        return
    if value["ttft_ms_mean"] > value["ttlt_ms_mean"]:
        yield "metrics: the first token comes after the last: ttft_ms_mean is above ttlt_ms_mean"
    batches = math.ceil(settings["limit"] / settings["batch_size"])
    seconds = batches * value["ttlt_ms_mean"] / 1000
    if not math.isclose(value["new_tokens"] / seconds, value["throughput_tok_s"], rel_tol=TOLERANCE):
        yield (
            f"metrics: throughput_tok_s must be new_tokens over {batches} times ttlt_ms_mean, "
            f"{value['new_tokens'] / seconds:.4g}, got {value['throughput_tok_s']:.4g}"
        )
    most = settings["limit"] * settings["max_new_tokens"]
    if value["new_tokens"] > most or (settings["protocol"] == "fixed" and value["new_tokens"] != most):
        yield f"metrics: new_tokens is {value['new_tokens']:g}, where {settings['limit']} prompts give {most}"
    for kind in ("gross", "net"):
        parts = [value.get(f"{kind}_j_{part}") for part in PARTS]
        total, each = value.get(f"{kind}_j_total"), value.get(f"{kind}_j_per_token")
        if total is None:
            continue
        if None in parts or not math.isclose(sum(parts), total, rel_tol=1e-6, abs_tol=1e-9):
            yield f"metrics: {kind}_j_total must be the sum of cpu, gpu and ram, got {total:.4g}"
        if each is None or not math.isclose(each, total / value["new_tokens"], rel_tol=1e-6, abs_tol=1e-12):
            yield f"metrics: {kind}_j_per_token must be {kind}_j_total over new_tokens, {total / value['new_tokens']:.4g}"
    if value.get("net_j_total", -math.inf) > value.get("gross_j_total", math.inf):
        yield "metrics: net_j_total is above gross_j_total: idle power was added where it is taken away"
