"""Which neurons speak for the myth? Shares of the log-odds of myth against truth, neuron by neuron.

The log-odds of a pair are the mean log-probability of the myth's tokens less that of the truth's. Length is taken out,
since a sum would favour the shorter text whatever it says. The share of neuron j is sum_t x_tj dL/dx_tj (gradient times
activation), x the input of ``down_proj``: what setting x_j to zero would take away, to first order. Integrated
gradients (Sundararajan et al., arXiv 1703.01365; for neurons Dai et al., arXiv 2104.08696) average the gradient on the
way of one layer's x from zero: these shares sum up to what the layer gives to the log-odds.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from ..errors import WidthPruneError
from ..mlps import check_no_experts, find_mlps, frozen
from .pairs import Pair

BATCH = 8  # pairs that a model reads at once
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
            raise WidthPruneError(
                "the tokenizer has no token to open a text with: name a model whose tokenizer has a bos_token or an eos_token"
            )
        whole = whole if whole[:1] == [opening] else [opening, *whole]
        start = 1
    if len(whole) <= start:
        raise WidthPruneError(
            f"the text {text!r:.80} adds no token to its prompt: leave its pair out of the set"
        )
    return torch.tensor(whole), start


def padded(texts: Sequence[tuple[Tensor, int]]) -> Tensor:
    """Texts from `encode` side by side, (texts, tokens) int64: what stands behind a text's end changes nothing before it."""
    return nn.utils.rnn.pad_sequence([tokens for tokens, _ in texts], batch_first=True)


def log_likelihoods(model: nn.Module, texts: Sequence[tuple[Tensor, int]]) -> Tensor:
    """Mean log-probability of each text's ``tokens[start:]``, each token given all before it: (texts,), float32."""
    logits = model(input_ids=padded(texts).to(model.device), use_cache=False).logits
    means = []
    for own, (tokens, start) in zip(logits, texts, strict=True):
        log_p = own[start - 1 : len(tokens) - 1].float().log_softmax(-1)
        means.append(log_p.gather(1, tokens[start:, None].to(model.device)).mean())
    return torch.stack(means)


def batches(tokenizer, pairs: Sequence[Pair]) -> Iterator[list[tuple[Tensor, int]]]:
    """The texts of `BATCH` pairs at a time, encoded: truth, myth, truth, myth and so on."""
    for start in range(0, len(pairs), BATCH):
        own = pairs[start : start + BATCH]
        yield [encode(tokenizer, pair.prompt, text) for pair in own for text in (pair.truth, pair.myth)]


@torch.inference_mode()
def likelihoods(model: nn.Module, tokenizer, pairs: Sequence[Pair]) -> Tensor:
    """Mean log-probabilities of truth and myth, and the tokens of each: (pairs, 2, 2) float64."""
    found = []
    for texts in batches(tokenizer, pairs):
        counts = torch.tensor([len(tokens) - start for tokens, start in texts])
        found.append(torch.stack([log_likelihoods(model, texts).cpu().double(), counts.double()], dim=-1))
    return torch.cat(found).unflatten(0, (len(pairs), 2)).transpose(1, 2)


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
    with frozen(model), torch.enable_grad():
        found = [_shares(model, outputs, texts, steps) for texts in batches(tokenizer, pairs)]
    return {
        name: torch.cat([own[name] for own in found]).unflatten(0, (len(pairs), 2)).cpu() for name in outputs
    }


def _shares(model, outputs: Mapping[str, nn.Module], texts, steps: int) -> dict[str, Tensor]:
    """(texts, d_ff) of every MLP."""
    if not steps:
        return {name: (x * dx).sum(1) for name, (x, dx) in _gradients(model, outputs, texts).items()}
    whole = {name: x for name, (x, _) in _gradients(model, outputs, texts).items()}
    shares = {}
    for name, output in outputs.items():
        mean = torch.zeros_like(whole[name])
        for step in range(steps):
            part = (step + 0.5) / steps * whole[name]
            mean += _gradients(model, {name: output}, texts, part)[name][1] / steps
        shares[name] = (whole[name] * mean).sum(1)
    return shares


def _gradients(model, outputs, texts, instead: Tensor | None = None):
    """x and dL/dx, (texts, tokens, d_ff) each, of these MLPs; with ``instead`` in the place of x."""
    seen = {}

    def note(name):
        def hook(module, inputs):
            # Some models, such as OPT, lay the tokens of all texts one after another.
            x = inputs[0].detach() if instead is None else instead.to(inputs[0]).reshape_as(inputs[0])
            # Behind the first MLP the graph goes on by itself; a leaf would cut it.
            x = inputs[0] if instead is None and inputs[0].requires_grad else x.requires_grad_()
            x.retain_grad()
            seen[name] = x
            return (x, *inputs[1:])

        return hook

    with ExitStack() as stack:
        for name, output in outputs.items():
            stack.enter_context(output.register_forward_pre_hook(note(name)))
        log_likelihoods(model, texts).sum().backward()  # no text's gradient holds another's
    shape = len(texts), -1
    return {
        name: tuple(own.float().reshape(*shape, x.shape[-1]) for own in (x.detach(), x.grad))
        for name, x in seen.items()
    }
