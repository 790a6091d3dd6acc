"""How MLPs are stored: which tensors hold the neurons, and along which axis. Names and shapes only.

One description serves a model in memory and a checkpoint on disk: both are a list of tensor names with
shapes. `LAYOUTS` says which names belong together; shapes say the rest (gate and up in one tensor,
matrices stored (in, out), experts stacked in one tensor). A new family is at most one new entry.
No torch is needed here, so that a plan answers at once.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from .errors import WidthPruneError

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Layout:
    """Names of the projections that go into the neurons and of the one that leads out of them.

    Two inputs are gate and up. One input is gate and up in one tensor if it has two rows per neuron;
    otherwise the MLP has no gate.
    """

    inputs: tuple[str, ...]
    output: str
    families: str  # examples, for the table in the book


LAYOUTS = (
    Layout(("gate_proj", "up_proj"), "down_proj", "Llama, Mistral, Qwen2/3, Gemma, OLMo2, SmolLM3, Granite"),
    Layout(("gate_up_proj",), "down_proj", "Phi-3, GLM-4; experts of Qwen-MoE, OLMoE, Llama-4, gpt-oss"),
    Layout(("w1", "w3"), "w2", "LFM2; experts of Mixtral on disk"),
    Layout(("input_linear",), "output_linear", "Granite-MoE, JetMoE"),
    Layout(("up_proj",), "down_proj", "Nemotron, Apertus, Arcee"),
    Layout(("c_fc",), "c_proj", "GPT-2, GPT-Neo, StarCoder2"),
    Layout(("dense_h_to_4h",), "dense_4h_to_h", "GPT-NeoX, Pythia, Falcon, Persimmon"),
    Layout(("fc1",), "fc2", "OPT, Phi-2, XGLM, nanochat"),
    Layout(("fc_in",), "fc_out", "GPT-J, CodeGen"),
    Layout(("Wi",), "Wo", "ModernBERT decoder"),
    Layout(("intermediate.dense",), "output.dense", "BERT and RoBERTa as decoders"),
    Layout(("feed_forward.intermediate",), "feed_forward.output", "ProphetNet"),
    Layout(("feed_forward.key",), "feed_forward.value", "RWKV"),
    Layout(("ffn.w_in.w_0", "ffn.w_in.w_1"), "ffn.w_out", "CPM-Ant"),
    Layout(("ff.layer_1",), "ff.layer_2", "XLNet"),
    Layout(("ffn.0",), "ffn.2", "CTRL"),
)
# Shapes cannot tell gate and up in halves from gate and up in alternating rows: these alternate.
INTERLEAVED = ("gpt_oss",)
# Nor (in, out) from (out, in) if the two are equal: these store (in, out), as transformers' Conv1D does.
TRANSPOSED = ("gpt2", "openai-gpt")
# Parts of a model that have projections of these names and are not its MLPs.
NOT_MLP = re.compile(r"attn|attention|vision|visual|image|img|audio|speech|router|^gate$")


@dataclass(frozen=True)
class Part:
    """One tensor of an MLP, or a slab of it, and where the neurons are in it.

    ``axis`` and ``packing`` describe one expert's matrix or bias: ``axis`` counts the neurons, and
    ``packing`` says whether a neuron has one entry along it ("single") or two, gate and up, in two
    "halves" or "alternating".
    """

    tensor: str
    role: str  # "input", "bias" (of an input) or "output"
    axis: int
    packing: str = "single"
    expert: int | None = None  # the one whose tensor this is, where each has its own
    stacked: bool = False  # all experts are in this tensor, along its first axis

    @property
    def path(self) -> str:
        """The module that holds the tensor."""
        return self.tensor.rpartition(".")[0]

    def pruned_shape(self, shape: tuple[int, ...], size: int) -> tuple[int, ...]:
        """The tensor's shape when ``size`` neurons (of each expert) are kept."""
        axis = self.axis + self.stacked
        length = size if self.packing == "single" else 2 * size
        return (*shape[:axis], length, *shape[axis + 1 :])


@dataclass(frozen=True)
class MLP:
    """One MLP, or all the experts of one layer: the neurons in it and the tensors that hold them.

    ``name`` is the module's path ("model.layers.0.mlp", "model.layers.0.mlp.experts"). ``experts`` is
    None for a single MLP; otherwise each of the experts has ``size`` neurons, and scores and kept
    indices have shape (experts, ...).
    """

    name: str
    layout: Layout
    kind: str  # "dense", "expert" or "shared" (an expert that every token uses)
    size: int  # neurons, of each expert
    hidden_size: int
    experts: int | None
    parts: tuple[Part, ...]

    @property
    def layer(self) -> tuple[int, ...]:
        """The numbers in the path: which layer this is."""
        return tuple(int(part) for part in self.name.split(".") if part.isdigit())

    @property
    def output(self) -> Part:
        """The output projection of an MLP without experts; its input is the neurons' activations."""
        (part,) = (part for part in self.parts if part.role == "output")
        return part

    def of_expert(self, expert: int | None) -> list[Part]:
        """The parts that hold one expert's neurons (None: of an MLP without experts)."""
        return [part for part in self.parts if part.stacked or part.expert == expert]


def find_layouts(shapes: Shapes, model_type: str, hidden_size: int | None, owner: str) -> list[MLP]:
    """Every MLP among the tensors of a model or checkpoint, in the order of the layers.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        Every tensor by name.
    model_type, hidden_size
        From the config; they decide only what shapes leave open.
    owner : str
        The model's name, for messages.

    Raises
    ------
    WidthPruneError
        If there is no MLP, if one is incomplete or its shapes do not fit together, or if a tensor
        beside its projections has the size of its neurons.
    """
    found = _match(shapes)
    if not found:
        names = "; ".join(" and ".join((*layout.inputs, layout.output)) for layout in LAYOUTS[:4])
        raise WidthPruneError(f"{owner} has no MLP of a known layout ({names}; ...): it cannot be pruned")
    _check_complete(found, shapes, owner)
    groups = defaultdict(list)
    for prefix, layout in found.items():
        separate = re.fullmatch(r"(.*\.experts)\.(\d+)\.", prefix)
        name, number = (separate[1], int(separate[2])) if separate else (prefix.rstrip("."), None)
        groups[name].append((number, prefix, layout))
    mlps = [_mlp(name, members, shapes, model_type, hidden_size) for name, members in groups.items()]
    _check_explained(mlps, shapes, owner)
    return sorted(mlps, key=lambda mlp: (mlp.layer, mlp.kind, mlp.name))


def _match(shapes: Shapes) -> dict[str, Layout]:
    """Prefixes of MLPs, each with the first layout whose projections are all there."""
    found = {}
    for tensor in filter(_in_mlp, shapes):
        base = tensor.removesuffix(".weight")
        for layout in LAYOUTS:
            if base != layout.output and not base.endswith(f".{layout.output}"):
                continue
            prefix = base.removesuffix(layout.output)
            if all(_weight(prefix + name, shapes) for name in layout.inputs):
                found.setdefault(prefix, layout)
                break
    return found


def _excluded(tensor: str) -> bool:
    """Whether a tensor lies in a part of the model that is none of its MLPs."""
    return any(NOT_MLP.search(segment) for segment in tensor.split("."))


def _in_mlp(tensor: str) -> bool:
    # Not in a norm, either; the first segment may be a model's name, roberta_prelayernorm.
    return not (_excluded(tensor) or any(segment.endswith("norm") for segment in tensor.split(".")[1:]))


def _weight(base: str, shapes: Shapes) -> str | None:
    return next((name for name in (f"{base}.weight", base) if name in shapes), None)


def _bias(base: str, shapes: Shapes) -> str | None:
    return next((name for name in (f"{base}.bias", f"{base}_bias") if name in shapes), None)


def _check_complete(found: dict[str, Layout], shapes: Shapes, owner: str) -> None:
    """A projection without its partners, in a model where its layout occurs, is damage."""
    for layout in set(found.values()):
        names = (*layout.inputs, layout.output)
        for tensor in filter(_in_mlp, shapes):
            base = tensor.removesuffix(".weight")
            for name in names:
                if base != name and not base.endswith(f".{name}"):
                    continue
                prefix = base.removesuffix(name)
                own = found.get(prefix)
                if own is None or name not in (*own.inputs, own.output):
                    missing = next(n for n in names if not _weight(prefix + n, shapes))
                    raise WidthPruneError(f"{owner} has {base} without {prefix}{missing}: copy it again")
    kinds = defaultdict(dict)
    for prefix, layout in found.items():
        kinds[_kind(prefix, False)].setdefault(layout, prefix)
    for layouts in kinds.values():
        gated = [layout for layout in layouts if len(layout.inputs) == 2]
        for layout, prefix in layouts.items():
            whole = next((other for other in gated if set(layout.inputs) < set(other.inputs)), None)
            if whole:
                raise WidthPruneError(
                    f"{owner} has {prefix}{layout.inputs[0]} without {prefix}{whole.inputs[0]}: copy it again"
                )


def _kind(prefix: str, stacked: bool) -> str:
    if "shared_expert" in prefix or "shared_mlp" in prefix:
        return "shared"
    return "expert" if stacked or re.search(r"\.experts\.(\d+\.)?$", prefix) else "dense"


def _mlp(name: str, members, shapes: Shapes, model_type: str, hidden_size: int | None) -> MLP:
    """One MLP, or the separate experts of one layer joined into one."""
    members = sorted(members, key=lambda member: member[0] or 0)
    parts, sizes, experts = [], set(), None
    for number, prefix, layout in members:
        own, size, hidden, stacked = _parts(prefix, layout, shapes, model_type, hidden_size, number)
        parts += own
        sizes.add((size, hidden))
        experts = stacked
    numbers = [number for number, _, _ in members]
    if numbers != [None]:
        experts = len(numbers)
        if numbers != list(range(experts)) or len(sizes) > 1:
            raise WidthPruneError(
                f"{name} must hold experts 0 to {experts - 1} of one size, got {len(sizes)} sizes and numbers "
                f"up to {numbers[-1]}: copy it again"
            )
    ((size, hidden),) = sizes
    kind = _kind(members[0][1], experts is not None)
    return MLP(name, members[0][2], kind, size, hidden, experts, tuple(parts))


def _parts(prefix, layout, shapes, model_type, hidden_size, number):
    """(parts, neurons, hidden size, number of stacked experts or None) of the projections at one prefix."""
    names = (*layout.inputs, layout.output)
    weights = [_weight(prefix + name, shapes) for name in names]
    *inputs, output = (shapes[weight] for weight in weights)
    if (found := _stored_as(inputs, output, model_type, hidden_size)) is None:
        raise WidthPruneError(
            f"{prefix.rstrip('.')}: {', '.join(names)} must share one intermediate size, got shapes "
            f"{', '.join(str(tuple(shape)) for shape in (*inputs, output))}"
        )
    packing, transposed = found
    stacked = len(output) == 3
    common = dict(expert=number, stacked=stacked)
    parts = []
    for name, weight in zip(layout.inputs, weights, strict=False):
        parts.append(Part(weight, "input", 1 if transposed else 0, packing, **common))
        if bias := _bias(prefix + name, shapes):
            parts.append(Part(bias, "bias", 0, packing, **common))
    parts.append(Part(weights[-1], "output", 0 if transposed else 1, **common))
    size, hidden = output[-2:] if transposed else reversed(output[-2:])
    return parts, size, hidden, output[0] if stacked else None


def _stored_as(inputs, output, model_type, hidden_size) -> tuple[str, bool] | None:
    """(packing, whether matrices are stored (in, out)) of an MLP's projections; None if their shapes do not fit together.

    Stored (out, in), as torch's Linear does, an input is (neurons, hidden) and the output (hidden, neurons). An input of
    two rows a neuron is gate and up in one.
    """
    if len(output) not in (2, 3) or len({shape[:-2] for shape in (*inputs, output)}) > 1:
        return None
    # Of one expert, where several are stacked.
    matrix, (rows, columns) = inputs[0][-2:], output[-2:]
    both = "alternating" if model_type in INTERLEAVED else "halves"
    if len(inputs) == 1 and matrix in ((2 * columns, rows), (columns, 2 * rows)):
        return both, matrix == (columns, 2 * rows)
    if len(set(inputs)) > 1 or matrix != (columns, rows):
        return None
    if hidden_size is None or rows == columns:
        return "single", model_type in TRANSPOSED
    return "single", columns == hidden_size


def _check_explained(mlps: list[MLP], shapes: Shapes, owner: str) -> None:
    """A tensor inside an MLP that has the size of the neurons, and no role, would break when they go."""
    own = {part.tensor for mlp in mlps for part in mlp.parts}
    prefixes = {f"{mlp.name}.": mlp for mlp in mlps}
    for tensor, shape in shapes.items():
        if tensor in own or _excluded(tensor):
            continue
        path = tensor
        while "." in path:
            path = path.rpartition(".")[0]
            mlp = prefixes.get(f"{path}.")
            sized = mlp and {mlp.size, 2 * mlp.size} - {mlp.hidden_size} & set(shape)
            if sized:
                raise WidthPruneError(
                    f"{owner} has {tensor} of shape {tuple(shape)} among the {mlp.size} neurons of {mlp.name}, "
                    "which no known layout explains: it cannot be pruned"
                )
