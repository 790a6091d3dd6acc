"""SliceGPT (arXiv 2401.15024): narrow the signal between blocks instead of the MLPs, by rotating and cutting it.

Norms without weights commute with rotations, so each block may see its input in the principal axes of the
signal, and lose the axes with the least variance. Section 3 of that paper; as in its released code the axes are those of
the signal in front of the norm, block after block on what the sliced blocks before give, and the last signal, which the
head reads, is rotated and stays whole. Tied embeddings are untied, since the two ends have axes of their own; and every
block keeps a matrix on its shortcut. Hence a model sliced by a tenth may well be larger than it was: `matched_width`.

Gemma has a norm behind each block as well, with weights in the model's own axes. So what a block writes stays whole up
to that norm, whose weights are then in a matrix that takes it into the kept axes: this is ours, the paper has no such model.
"""

import copy
from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from ..errors import WidthPruneError

DAMPING = 0.01  # of the mean variance, added to all, as in the released code
INPUTS, MLP_INPUTS = ("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")
LLAMA = ("input_layernorm", "post_attention_layernorm", None, None)
# The norms in front of attention and MLP, and those behind them, by kind of model.
NORMS = {
    "llama": LLAMA,
    "mistral": LLAMA,
    "qwen2": LLAMA,
    "gemma3_text": (
        *("input_layernorm", "pre_feedforward_layernorm"),
        *("post_attention_layernorm", "post_feedforward_layernorm"),
    ),
}


class RootMeanSquareNorm(nn.Module):
    """x / sqrt(sum x^2 / size): of a cut signal the sum stands for that of the whole, so ``size`` stays."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.size, self.eps = size, eps

    def forward(self, x: Tensor) -> Tensor:
        square = x.float().square().sum(-1, keepdim=True) / self.size
        return (x.float() * torch.rsqrt(square + self.eps)).to(x.dtype)


class SlicedLayer(nn.Module):
    """A decoder layer whose two shortcuts change the axes: ``attention_shortcut`` and ``mlp_shortcut``."""

    def __init__(self, layer: nn.Module, size: int, eps: float):
        super().__init__()
        self.self_attn, self.mlp = layer.self_attn, layer.mlp
        self.norm = RootMeanSquareNorm(size, eps)
        self.behind_attention, self.behind_mlp = layer.behind_attention, layer.behind_mlp
        self.attention_shortcut = self.mlp_shortcut = None

    def attend(self, x: Tensor, **options) -> Tensor:
        written = self.self_attn(hidden_states=self.norm(x), **options)[0]
        return x @ self.attention_shortcut + self.behind_attention(written)

    def think(self, x: Tensor) -> Tensor:
        return x @ self.mlp_shortcut + self.behind_mlp(self.mlp(self.norm(x)))

    def forward(self, hidden_states: Tensor, **options) -> Tensor:
        return self.think(self.attend(hidden_states, **options))


@torch.no_grad()
def slice_model(model: nn.Module, sequences: Sequence[Tensor], width: int) -> nn.Module:
    """A copy of a model with signals of ``width`` numbers between its blocks.

    Parameters
    ----------
    model : PreTrainedModel
        Of a kind of `NORMS`. Left as it was.
    sequences : sequence of Tensor, shape (tokens,), int64
        What the axes are found on, from `Calibration.token_sequences`.
    width : int
        At most the hidden size, at which nothing but rounding changes.

    Returns
    -------
    PreTrainedModel
        In float32, with untied embeddings. It is for measuring: transformers could not load it.

    Raises
    ------
    WidthPruneError
        If the model is of another kind.
    """
    size = check(model)
    model = fused(model)
    inner = model.model
    options = layer_options(model, sequences)
    signals = [inner.embed_tokens(tokens[None].to(model.device)) for tokens in sequences]
    axes = principal_axes(signals)[:, :width]
    inner.embed_tokens.weight = nn.Parameter(inner.embed_tokens.weight @ axes)
    signals = [x @ axes for x in signals]
    for place, layer in enumerate(inner.layers):
        last = place == len(inner.layers) - 1
        sliced = SlicedLayer(layer, size, model.config.rms_norm_eps)
        signals, axes = slice_layer(sliced, options[place], signals, axes, size if last else width, width)
        inner.layers[place] = sliced
    model.lm_head.weight = nn.Parameter(model.lm_head.weight @ axes)
    return model.eval()


def check(model: nn.Module) -> int:
    """The hidden size; refuses other kinds of models."""
    kind, size = model.config.model_type, model.config.hidden_size
    if kind not in NORMS:
        raise WidthPruneError(
            f"SliceGPT is known for models of the kinds {', '.join(NORMS)} here, got {kind}, whose norms or shortcuts "
            "differ: choose a model of one of these kinds"
        )
    return size


def fused(model: nn.Module) -> nn.Module:
    """A copy in float32 with a head of its own and norms without weights: these are in what reads the norm."""
    model = copy.deepcopy(model).float().eval()
    kind, eps = model.config.model_type, model.config.rms_norm_eps
    head = model.lm_head.weight.detach().clone()
    model.lm_head = nn.Linear(head.shape[1], head.shape[0], bias=False)
    model.config.tie_word_embeddings = False
    model.lm_head.weight = nn.Parameter(head * gain(model.model.norm, kind))
    for layer in model.model.layers:
        before_attention, before_mlp, *behind = (
            getattr(layer, name) if name else None for name in NORMS[kind]
        )
        for block, names, norm in (
            (layer.self_attn, INPUTS, before_attention),
            (layer.mlp, MLP_INPUTS, before_mlp),
        ):
            for reader in (getattr(block, name) for name in names):
                reader.weight = nn.Parameter(reader.weight * gain(norm, kind))
        layer.behind_attention, layer.behind_mlp = (weighted(norm, kind, eps) for norm in behind)
    model.model.norm = RootMeanSquareNorm(head.shape[1], eps)
    return model


def gain(norm: nn.Module, kind: str) -> Tensor:
    """What a norm multiplies by, (d,): Gemma stores it less one."""
    return norm.weight + 1 if kind.startswith("gemma") else norm.weight


def weighted(norm: nn.Module | None, kind: str, eps: float) -> nn.Module:
    """A norm behind a block as one without weights and a matrix, which can be cut; where there is none, nothing."""
    if norm is None:
        return nn.Identity()
    own = gain(norm, kind)
    matrix = nn.Linear(len(own), len(own), bias=False)
    matrix.weight = nn.Parameter(own.diag())
    return nn.Sequential(RootMeanSquareNorm(len(own), eps), matrix)


def layer_options(model: nn.Module, sequences: Sequence[Tensor]) -> list[list[dict]]:
    """What every layer is given beside its signal, layer by layer, for each sequence: positions, and what it may see."""
    found = [[] for _ in model.model.layers]
    with ExitStack() as stack:
        for layer, own in zip(model.model.layers, found, strict=True):
            handle = layer.register_forward_pre_hook(
                lambda module, signal, options, own=own: own.append(options), with_kwargs=True
            )
            stack.enter_context(handle)
        for tokens in sequences:
            model.model(input_ids=tokens[None].to(model.device), use_cache=False)
    return found


def principal_axes(signals: Sequence[Tensor]) -> Tensor:
    """Orthogonal axes of a signal, most variance first: (d, d) float32, from arrays (..., tokens, d)."""
    moment = sum(x.flatten(0, -2).double().T @ x.flatten(0, -2).double() for x in signals)
    moment.diagonal().add_(DAMPING * moment.diagonal().mean())
    return torch.linalg.eigh(moment).eigenvectors.flip(1).float()


def slice_layer(
    layer: SlicedLayer,
    options: Sequence[dict],
    signals: list[Tensor],
    axes: Tensor,
    out_width: int,
    width: int,
) -> tuple[list[Tensor], Tensor]:
    """Cut one layer, in place, whose input is in ``axes``: its output on each sequence, and the axes of that."""
    read_in(layer.self_attn, INPUTS, axes)
    layer.attention_shortcut = nn.Parameter(
        axes.T
    )  # back to the model's own axes, until the new ones are known
    signals = [layer.attend(x, **own) for x, own in zip(signals, options, strict=True)]
    middle = principal_axes(signals)[:, :width]
    layer.attention_shortcut = nn.Parameter(axes.T @ middle)
    write_in(layer.self_attn.o_proj, layer.behind_attention, middle)
    read_in(layer.mlp, MLP_INPUTS, middle)
    layer.mlp_shortcut = nn.Parameter(middle.T)
    signals = [layer.think(x @ middle) for x in signals]
    after = principal_axes(signals)[:, :out_width]
    layer.mlp_shortcut = nn.Parameter(middle.T @ after)
    write_in(layer.mlp.down_proj, layer.behind_mlp, after)
    return [x @ after for x in signals], after


def read_in(block: nn.Module, names: Sequence[str], axes: Tensor) -> None:
    """Let projections read a signal that is given in ``axes``, (d, width)."""
    for name in names:
        reader = getattr(block, name)
        reader.weight, reader.in_features = nn.Parameter(reader.weight @ axes), axes.shape[1]


def write_in(writer: nn.Linear, behind: nn.Module, axes: Tensor) -> None:
    """Let a block write its signal in ``axes``, (d, width): its last projection, or the matrix behind its norm."""
    writer = behind[-1] if isinstance(behind, nn.Sequential) else writer
    writer.weight, writer.out_features = nn.Parameter(axes.T @ writer.weight), axes.shape[1]
    if writer.bias is not None:
        writer.bias = nn.Parameter(axes.T @ writer.bias)


def count(model: nn.Module, embeddings: bool = True) -> int:
    """Parameters, with or without those of the embeddings and of a head of its own."""
    ends = {id(model.get_input_embeddings().weight), id(model.get_output_embeddings().weight)}
    return sum(p.numel() for p in model.parameters() if embeddings or id(p) not in ends)


def sliced_count(model: nn.Module, width: int, embeddings: bool = True) -> int:
    """`count` of `slice_model`'s result, from the shapes of the unsliced model."""
    size, layers = model.config.hidden_size, model.model.layers
    behind = NORMS[model.config.model_type][-1] is not None
    total = (width + size) * model.config.vocab_size if embeddings else 0
    for place, layer in enumerate(layers):
        out = size if place == len(layers) - 1 else width
        readers = [getattr(layer.self_attn, name) for name in INPUTS]
        readers += [getattr(layer.mlp, name) for name in MLP_INPUTS]
        # Behind a norm what is written stays whole, and a matrix takes it into the kept axes.
        writers = [
            (layer.self_attn.o_proj, size if behind else width),
            (layer.mlp.down_proj, size if behind else out),
        ]
        total += size * (width + out) if behind else 0
        total += sum(p.numel() for name, p in layer.self_attn.named_parameters() if "norm" in name)
        total += sum(r.out_features * (width + (r.bias is not None)) for r in readers)
        total += sum(to * (w.in_features + (w.bias is not None)) for w, to in writers)
        total += width * width + width * out
    return total


def matched_width(model: nn.Module, parameters: int, embeddings: bool = True) -> int | None:
    """The largest width at which the sliced model has at most so many parameters; None if even one number has more."""
    widths = range(1, model.config.hidden_size + 1)
    fitting = [width for width in widths if sliced_count(model, width, embeddings) <= parameters]
    return max(fitting, default=None)
