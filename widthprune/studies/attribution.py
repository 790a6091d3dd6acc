"""Which neurons speak for the myth? Shares of the log-odds of myth against truth, neuron by neuron.

The log-odds of a pair are the mean log-probability of the myth's tokens less that of the truth's. Length is taken out,
since a sum would favour the shorter text whatever it says. The share of neuron j is sum_t x_tj dL/dx_tj (gradient times
activation), x the input of ``down_proj``: what setting x_j to zero would take away, to first order. Integrated
gradients (Sundararajan et al., arXiv 1703.01365; for neurons Dai et al., arXiv 2104.08696) average the gradient on the
way of one layer's x from zero: these shares sum up to what the layer gives to the log-odds.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..errors import WidthPruneError
from ..mlps import check_no_experts, find_mlps, frozen
from .pairs import Pair

NO_NEURONS = "whose neurons have no activations of their own: choose a dense model"


def encode(tokenizer, prompt: str, text: str) -> tuple[Tensor, int]:
    """Token ids, (tokens,) int64, of prompt and text, and where the text begins: at 1 at least.

    As lm-eval does it: prompt and text are read together, and where there is no prompt, the tokenizer's opening token,
    or else its closing one, stands in front.

    Raises
    ------
    WidthPruneError
        If the text adds no token, or the tokenizer has neither.
    """
    whole = tokenizer(prompt + text).input_ids
    start = len(tokenizer(prompt).input_ids) if prompt else 0
    opening = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if not prompt:
        if opening is None:
            raise WidthPruneError("the tokenizer has no token to open a text with")
        whole = whole if whole[:1] == [opening] else [opening, *whole]
        start = 1
    if len(whole) <= start:
        raise WidthPruneError("a pair's text must add a token to its prompt, got none")
    return torch.tensor(whole), start


def log_likelihood(model: nn.Module, tokens: Tensor, start: int) -> Tensor:
    """Mean log-probability of ``tokens[start:]``, each given all before it: a scalar, float32."""
    logits = model(input_ids=tokens[None].to(model.device), use_cache=False).logits[0]
    log_p = logits[start - 1 : -1].float().log_softmax(-1)
    return log_p.gather(1, tokens[start:, None].to(model.device)).mean()


@torch.inference_mode()
def likelihoods(model: nn.Module, tokenizer, pairs: Sequence[Pair]) -> Tensor:
    """Mean log-probabilities of truth and myth, and the tokens of each: (pairs, 2, 2) float64."""
    rows = []
    for pair in pairs:
        both = [encode(tokenizer, pair.prompt, text) for text in (pair.truth, pair.myth)]
        means = [float(log_likelihood(model, *one)) for one in both]
        rows.append([means, [len(tokens) - start for tokens, start in both]])
    return torch.tensor(rows, dtype=torch.float64)


def log_odds(found: Tensor, summed: bool = False) -> Tensor:
    """Log-odds of myth against truth, (pairs,), from `likelihoods`: of tokens on average, or of the whole texts."""
    means, counts = found[:, 0], found[:, 1]
    scores = means * counts if summed else means
    return scores[:, 1] - scores[:, 0]


def attribute(model: nn.Module, tokenizer, pairs: Sequence[Pair], steps: int = 0) -> dict[str, Tensor]:
    """Each neuron's share of the log-likelihood of truth and of myth, pair by pair.

    Parameters
    ----------
    model : PreTrainedModel
        Without experts. Left as it was.
    steps : int
        0 for gradient times activation; else integrated gradients by that many midpoints, layer by layer: as many
        times the work, for each layer.

    Returns
    -------
    dict of str to Tensor, shape (pairs, 2, d_ff), float32
        By the MLP's name; truth first. Myth less truth are the shares of the log-odds.

    Raises
    ------
    WidthPruneError
        If the model has experts or cannot be pruned, or a pair is empty.
    """
    mlps = find_mlps(model)
    check_no_experts(mlps, NO_NEURONS)
    outputs = {mlp.name: model.get_submodule(mlp.output.path) for mlp in mlps}
    found = {mlp.name: torch.empty(len(pairs), 2, mlp.size) for mlp in mlps}
    with frozen(model), torch.enable_grad():
        for place, pair in enumerate(pairs):
            for side, text in enumerate((pair.truth, pair.myth)):
                shares = _shares(model, outputs, *encode(tokenizer, pair.prompt, text), steps)
                for name, own in shares.items():
                    found[name][place, side] = own
    return found


def _shares(model, outputs: Mapping[str, nn.Module], tokens: Tensor, start: int, steps: int):
    """(d_ff,) of every MLP, for one text."""
    if not steps:
        return {name: (x * dx).sum(0) for name, (x, dx) in _gradients(model, outputs, tokens, start).items()}
    whole = {name: x for name, (x, _) in _gradients(model, outputs, tokens, start).items()}
    shares = {}
    for name, output in outputs.items():
        mean = torch.zeros_like(whole[name])
        for step in range(steps):
            part = (step + 0.5) / steps * whole[name]
            mean += _gradients(model, {name: output}, tokens, start, part)[name][1] / steps
        shares[name] = (whole[name] * mean).sum(0)
    return shares


def _gradients(model, outputs, tokens: Tensor, start: int, instead: Tensor | None = None):
    """x and dL/dx, (tokens, d_ff) each, of these MLPs; with ``instead`` in the place of x."""
    seen = {}

    def note(name):
        def hook(module, inputs):
            x = inputs[0].detach() if instead is None else instead[None].to(inputs[0])
            # Behind the first MLP the graph goes on by itself; a leaf would cut it.
            x = inputs[0] if instead is None and inputs[0].requires_grad else x.requires_grad_()
            x.retain_grad()
            seen[name] = x
            return (x, *inputs[1:])

        return hook

    handles = [output.register_forward_pre_hook(note(name)) for name, output in outputs.items()]
    try:
        log_likelihood(model, tokens, start).backward()
    finally:
        for handle in handles:
            handle.remove()
    return {name: (x.detach()[0].float(), x.grad[0].float()) for name, x in seen.items()}
