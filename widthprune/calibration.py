"""Calibration: run a model once over some text and keep what its neurons did, as sums.

The activation x_tj of neuron j at token t is what it hands to ``down_proj``: act(gate) * up. Nothing of
size tokens x neurons is kept: memory is a handful of vectors per MLP. Sequences run one at a time, so
there is no padding that could enter a sum, and no batch size that the result could depend on.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from .criteria import CRITERIA
from .errors import COPY_AGAIN, WidthPruneError, in_one_line
from .mlps import check_no_experts, find_mlps, frozen
from .pocket import DEFAULT_TEXT

# Why a mixture is refused: its neurons' activations pass through no module of their own.
UNHEARD = (
    f"whose neurons cannot be listened to: choose a criterion that needs no data ({', '.join(CRITERIA)})"
)


@dataclass
class Activations:
    """Sums over the calibration text for one MLP; every tensor has shape (d_ff,) and dtype float64."""

    tokens: int
    sequences: int
    total: Tensor  # sum over tokens of x
    absolute: Tensor  # sum over tokens of |x|
    squares: Tensor  # sum over tokens of x^2
    squared_means: Tensor  # sum over sequences of (mean over the sequence's tokens of |x|)^2
    saliency: Tensor | None = None  # sum over tokens of x * dL/dx; only with gradients

    @classmethod
    def zeros(cls, d_ff: int, gradients: bool = False) -> "Activations":
        sums = [torch.zeros(d_ff, dtype=torch.float64) for _ in range(5)]
        return cls(0, 0, *sums[:4], sums[4] if gradients else None)

    @property
    def d_ff(self) -> int:
        """Number of neurons."""
        return len(self.total)

    def add(self, x: Tensor) -> None:
        """Add one sequence: x (1, T, d_ff)."""
        x = _precise(x)
        absolute = x.abs().sum(dim=0)
        self.tokens += len(x)
        self.sequences += 1
        self.total += x.sum(dim=0).cpu()
        self.absolute += absolute.cpu()
        self.squares += x.square().sum(dim=0).cpu()
        self.squared_means += (absolute / len(x)).square().cpu()

    def add_gradient(self, x: Tensor, gradient: Tensor) -> None:
        """Add one sequence's gradient of the loss with respect to its x, both (1, T, d_ff)."""
        self.saliency += (_precise(x) * _precise(gradient)).sum(dim=0).cpu()

    @property
    def mean(self) -> Tensor:
        """Mean activation over tokens, (d_ff,) float64."""
        return self.total / self.tokens

    @property
    def variance(self) -> Tensor:
        """Unbiased variance over tokens, (d_ff,) float64."""
        # In float64 the difference loses nothing that 16- or 32-bit activations had; rounding may pass zero.
        spread = self.squares - self.total.square() / self.tokens
        return spread.clamp(min=0) / max(self.tokens - 1, 1)


def _precise(x: Tensor) -> Tensor:
    # (1, T, d_ff) to (T, d_ff) in float64, which Apple's GPUs do not have.
    return (x.detach().cpu() if x.device.type == "mps" else x.detach()).double().flatten(0, -2)


@dataclass(frozen=True)
class Calibration:
    """Which text a model is run on, and how much of it.

    Parameters
    ----------
    text : str, Path, sequence of str or None
        A ``.jsonl`` file (a document a line: a string, or an object with "text" or "page"), any other
        text file (one document), documents themselves, or None for the 27 documents (4,400 words) that
        ship with this package.
    sequences : int
        How many sequences to run, at most; a text that is shorter gives fewer.
    length : int
        Longest sequence in tokens. Documents are cut into pieces of this length.
    seed : int
        Draws the sequences out of all pieces.
    """

    text: str | Path | Sequence[str] | None = None
    sequences: int = 128
    length: int = 256
    seed: int = 0

    def documents(self) -> list[str]:
        """The documents that are not blank; a `WidthPruneError` if there is none."""
        for name in ("sequences", "length"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise WidthPruneError(
                    f"calibration {name} must be a whole number of at least 1, got {value!r}"
                )
        if self.text is None or isinstance(self.text, str | Path):
            path = Path(DEFAULT_TEXT if self.text is None else self.text)
            name, found = str(path), _read(path)
        else:
            name, found = "the list", list(self.text)
        if not all(isinstance(document, str) for document in found):
            raise WidthPruneError(
                f'calibration text {name} must hold strings, or objects with "text" or "page"'
            )
        found = [document for document in found if document.strip()]
        if any(re.search("[\ud800-\udfff]", document) for document in found):
            raise WidthPruneError(
                f"calibration text {name} has half of a character, a lone surrogate: take it out"
            )
        if not found:
            raise WidthPruneError(f"calibration text {name} is empty: give at least one document")
        return found

    def identity(self) -> dict:
        """Everything that could change what the model sees, for the settings of a result."""
        digest = hashlib.sha256(json.dumps(self.documents()).encode())
        return {
            "calibration": f"sha256:{digest.hexdigest()[:16]}",
            "calibration_sequences": self.sequences,
            "calibration_length": self.length,
            "calibration_seed": self.seed,
        }

    def options(self) -> list[str]:
        """The options of the command line that lead here; a file by its bare name."""
        default = Calibration()
        options = []
        if self.text is not None:
            options.append(
                f"--calibration {Path(self.text).name if isinstance(self.text, str | Path) else 'FILE'}"
            )
        for name in ("sequences", "length"):
            if getattr(self, name) != getattr(default, name):
                options.append(f"--calibration-{name} {getattr(self, name)}")
        return options + [f"--seed {self.seed}"] * (self.seed != default.seed)

    def token_sequences(self, tokenizer) -> list[Tensor]:
        """Token ids, (tokens,) int64 each, between 2 and ``length`` of them.

        A tokenizer that opens every text with a token of its own (Gemma's, Llama-3's) opens every
        sequence with it.
        """
        documents = self.documents()
        if tokenizer is None:
            raise WidthPruneError("calibrating needs a tokenizer, and the model's directory holds none")
        opening = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
        if tokenizer("a").input_ids[:1] != opening:
            opening = []
        room = max(self.length - len(opening), 1)
        pieces = []
        for document in documents:
            # Longer than the model's own limit on purpose: the pieces are not.
            with in_one_line("the tokenizer fails on the calibration text", "copy its files again"):
                ids = tokenizer(document, add_special_tokens=False, verbose=False).input_ids
            pieces += [opening + ids[start : start + room] for start in range(0, len(ids), room)]
        # A single token predicts nothing.
        pieces = [piece for piece in pieces if len(piece) > 1]
        if not pieces:
            raise WidthPruneError("calibration text gives no sequence of two tokens: give a longer one")
        drawn = np.random.default_rng(self.seed).permutation(len(pieces))[: self.sequences]
        return [torch.tensor(pieces[i]) for i in sorted(drawn)]


def _read(path: Path) -> list:
    try:
        content = path.read_text(encoding="utf-8-sig")  # some editors begin a file with a mark
    except OSError as error:
        raise WidthPruneError(f"calibration text {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise WidthPruneError(f"calibration text {path} is not UTF-8 text: convert it") from None
    if path.suffix != ".jsonl":
        return [content]
    try:
        # Not splitlines: JSON may hold other line ends than its own, such as U+2028, within a string.
        lines = [json.loads(line) for line in content.split("\n") if line.strip()]
    except (ValueError, RecursionError):
        raise WidthPruneError(f"calibration text {path} is not JSON Lines: one JSON value a line") from None
    return [line.get("text", line.get("page")) if isinstance(line, dict) else line for line in lines]


def calibrate(
    model: nn.Module,
    tokenizer,
    calibration: Calibration | None = None,
    *,
    gradients: bool = False,
    progress: bool = False,
) -> dict[str, Activations]:
    """Run a model over calibration text and sum up its neurons' activations, by module name.

    The model is left as it was. Computed once, the sums serve every criterion in `CALIBRATED` and every
    width: ``score_model(model, "AMP", activations=calibrate(model, tokenizer))``.

    Parameters
    ----------
    model : PreTrainedModel
    tokenizer : PreTrainedTokenizerBase
        As `load_model` returns it.
    calibration : Calibration, optional
        The text and how much of it; default the package's own.
    gradients : bool
        Also run backwards, for criteria that need it (TAYLOR): about twice the time, and memory for one
        sequence's activations in all layers. No gradient of a weight is computed.
    progress : bool
        Show a bar on stderr.

    Raises
    ------
    WidthPruneError
        If the text is empty or unreadable, a sequence is longer than the model's positions, there is no
        tokenizer, the model cannot be pruned, or an activation is NaN or infinite.
    """
    mlps = find_mlps(model)
    check_no_experts(mlps, UNHEARD)
    sequences = (calibration or Calibration()).token_sequences(tokenizer)
    check_length(model, max(map(len, sequences)))
    found = {mlp.name: Activations.zeros(mlp.size, gradients) for mlp in mlps}
    fails = f"{type(model).__name__} fails on the calibration text"
    advice = f"give a smaller calibration length, or {COPY_AGAIN}"
    with _listening(
        model, [(model.get_submodule(mlp.output.path), found[mlp.name]) for mlp in mlps], gradients
    ):
        for tokens in tqdm(sequences, desc="calibrating", unit="sequence", disable=not progress):
            with in_one_line(fails, advice), torch.set_grad_enabled(gradients):
                _run(model, tokens[None].to(model.get_input_embeddings().weight.device), gradients)
    for name, activations in found.items():
        sums = [activations.squares] + ([activations.saliency] if gradients else [])
        if not all(bool(each.isfinite().all()) for each in sums):
            raise WidthPruneError(
                f"{name}: activations on the calibration text are NaN or infinite: load the model in float32"
            )
    return found


def check_length(model: nn.Module, longest: int) -> None:
    """Refuse sequences that are longer than the model's positions."""
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None) or longest
    if longest > positions:
        raise WidthPruneError(
            f"calibration length must be at most the model's {positions} positions, got {longest}"
        )


@contextmanager
def _listening(model: nn.Module, listened: list[tuple[nn.Module, Activations]], gradients: bool):
    """Add up what reaches the output projections inside the block, then leave the model as it was."""

    def listener(activations):
        def add(_, inputs):
            x = inputs[0]
            activations.add(x)
            if gradients:
                x.register_hook(lambda gradient: activations.add_gradient(x, gradient))

        return add

    handles = [output.register_forward_pre_hook(listener(activations)) for output, activations in listened]
    if gradients:
        # With every weight frozen, the graph begins at the embedded text.
        embeddings = model.get_input_embeddings()
        handles.append(embeddings.register_forward_hook(lambda _, inputs, out: out.requires_grad_()))
    try:
        with frozen(model):
            yield
    finally:
        for handle in handles:
            handle.remove()


def _run(model: nn.Module, tokens: Tensor, gradients: bool) -> None:
    if gradients:
        logits = model(tokens, use_cache=False).logits[0, :-1]
        # A sum over tokens: a long sequence counts for more than a short one, as in the other sums.
        F.cross_entropy(logits.float(), tokens[0, 1:], reduction="sum").backward()
    else:
        # The listeners take what they need; the logits of one token save the largest product.
        model(tokens, use_cache=False, logits_to_keep=1)
