"""lm-eval's Hugging Face model, with every shared prefix read once.

Multiple choice asks a model for the likelihood of several answers after one question, and few-shot
tasks put the same examples before every question. lm-eval reads each pair of question and answer in
full; here the examples are read once per task, a question once, and then only the answers. Generation
reads the examples once too, and goes on in large batches (`widthprune.evaluation.engine.decoding`). A processor's threads
read several texts side by side (`widthprune.evaluation.engine.threads`). The results are those of
`lm_eval.models.huggingface.HFLM` up to rounding: a test compares the two.
"""

import copy
import os
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import contextmanager
from itertools import chain

import torch
from lm_eval.models.utils import (
    handle_stop_sequences,
    normalize_gen_kwargs,
    postprocess_generated_text,
)
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from .attention import shared_attention, shared_cache
from .decoding import generate, likeliest, plain_greedy, read, sliding_window
from .stock import StockLM
from .threads import readers, side_by_side

MIN_SHARED = 32  # tokens; below this a cache of its own costs more than it saves
# All that is read at a time shares the next two.
BATCH_TOKENS = 16384  # tokens in the cache of one batch, rows times length
LOGITS = 2**28  # logits held at once, tokens times vocabulary
CACHED = 2**21  # of these, how many are turned into probabilities at once


class PrefixLM(StockLM):
    """`HFLM` with prefix sharing for log-likelihoods and greedy generation, and perplexity in chunks.

    For models that `widthprune.evaluation.engine.choice` lets it read. Generation that samples goes through `HFLM` unchanged.
    """

    engine = "prefix"
    min_shared = MIN_SHARED

    def _loglikelihood_tokens(self, requests, disable_tqdm=False, override_bs=None):
        if any(not answer for _, _, answer in requests):
            return super()._loglikelihood_tokens(
                requests, disable_tqdm, override_bs
            )  # which says what is wrong
        most = self._tokens_at_once()
        # override_bs is lm-eval's sign for the windows of a perplexity, which share nothing.
        if override_bs is not None:
            # The longest first, so that no thread is left with it alone at the end.
            order = sorted(range(len(requests)), key=lambda i: -len(requests[i][1]) - len(requests[i][2]))
            with shared_attention(self.model):
                found = side_by_side(lambda i: self._window(*requests[i][1:], most), order, self.device)
            return [answer for _, answer in sorted(zip(order, found, strict=True))]
        answers: list = [None] * len(requests)
        questions: dict[tuple[int, ...], list[int]] = {}
        left_over = []
        for i, (_, context, continuation) in enumerate(requests):
            if len(context) + len(continuation) > self.max_length:
                left_over.append(i)
            else:
                questions.setdefault(tuple(context), []).append(i)
        with shared_attention(self.model), _head_reads(self.model) as places:
            for prefix, group in _by_prefix(list(questions), self.min_shared):
                past = read(self.model, prefix)[1] if prefix else DynamicCache()
                batches = [
                    [i for context in batch for i in questions[context]]
                    for batch in self._batches(group, questions, requests)
                ]
                batches.reverse()  # the longest first here, too

                def answer(members, past=past):
                    asked = [(tuple(requests[i][1]), requests[i][2]) for i in members]
                    return self._answer(past, asked, most, places)

                found = side_by_side(answer, batches, self.device)
                for i, scores in zip(chain(*batches), chain(*found), strict=True):
                    answers[i] = scores
        rest = super()._loglikelihood_tokens([requests[i] for i in left_over], True) if left_over else []
        for i, answer in zip(left_over, rest, strict=True):
            answers[i] = answer
        for (text, _, _), answer in zip(requests, answers, strict=True):
            if text is not None:
                self.cache_hook.add_partial("loglikelihood", text, answer)
        return answers

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        # lm-eval hands over a batch of windows at a time, and here no batch is made of them.
        before, self.batch_size_per_gpu = self.batch_size_per_gpu, sys.maxsize
        try:
            return super().loglikelihood_rolling(requests, disable_tqdm)
        finally:
            self.batch_size_per_gpu = before

    def generate_until(self, requests, disable_tqdm=False):
        answers: list = [None] * len(requests)
        groups: dict[str, list[int]] = {}
        for i, request in enumerate(requests):
            groups.setdefault(repr(request.args[1]), []).append(i)
        for members in groups.values():
            of_group = [requests[i] for i in members]
            options = normalize_gen_kwargs(of_group[0].args[1], self.max_gen_toks)
            if self._likeliest_tokens(options):
                texts = self._generate([request.args[0] for request in of_group], options)
            else:
                texts = super().generate_until(of_group, True)
            for i, text in zip(members, texts, strict=True):
                answers[i] = text
                self.cache_hook.add_partial("generate_until", requests[i].args, text)
        return answers

    def _likeliest_tokens(self, options: dict) -> bool:
        """Whether these generation options ask for greedy search and nothing else."""
        known = {"until", "max_gen_toks", "do_sample", "temperature"}
        greedy = not options.get("do_sample") and not options.get("temperature")
        room = self.max_length > options["max_gen_toks"]  # else HFLM says what is wrong
        ours = plain_greedy(self.model) and self.think_end_token is None
        return greedy and room and ours and set(options) <= known

    def _generate(self, contexts: list[str], options: dict) -> list[str]:
        stop = [term for term in handle_stop_sequences(options.get("until"), eos=None) if term]
        room = self.max_length - options["max_gen_toks"]
        prompts = [self._prompt(context, room) for context in contexts]

        def stopped(tokens):
            text = self.tok_decode(tokens) if stop else ""
            return any(term in text for term in stop)

        texts: dict[tuple[int, ...], str] = {}
        for prefix, group in _by_prefix(list(dict.fromkeys(prompts)), self.min_shared):
            found = generate(
                self.model,
                group,
                options["max_gen_toks"],
                eos=self._end_tokens(),
                stopped=stopped,
                prefix=prefix,
            )
            for prompt, tokens in zip(group, found, strict=True):
                text = self.tok_decode(tokens)
                texts[prompt] = postprocess_generated_text(text, stop=stop, think_end_token=None)
        return [texts[prompt] for prompt in prompts]

    def _prompt(self, context: str, room: int) -> tuple[int, ...]:
        tokens, _ = self.tok_batch_encode([context], left_truncate_len=room, truncation=self.truncation)
        return tuple(tokens[0].tolist())

    def _end_tokens(self) -> list[int]:
        ends = self.model.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        # lm-eval stops at the tokenizer's end token too, whatever the generation config says.
        return [token for token in {*ends, self.eot_token_id} if token is not None]

    @torch.no_grad()
    def _window(self, context, continuation, most: int) -> tuple[float, bool]:
        """One window of a perplexity, ``most`` tokens at once: all logits of a long one fill gigabytes."""
        tokens = torch.tensor([*context, *continuation], device=self.device)[-self.max_length - 1 :]
        # Given the config, sliding layers forget what has left their window.
        past, total, greedy = DynamicCache(config=self.model.config), 0.0, True
        for start in range(0, len(tokens) - 1, most):
            targets = tokens[start + 1 : start + most + 1]
            out = self.model(tokens[None, start : start + len(targets)], past_key_values=past, use_cache=True)
            # The context is read and not scored.
            first = max(len(tokens) - len(continuation) - 1 - start, 0)
            scores, is_likeliest = self._scores(out.logits[0, first:], targets[first:, None])
            total += float(scores.sum())
            greedy &= bool(is_likeliest.all())
        return total, greedy

    def _tokens_at_once(self) -> int:
        """Tokens whose logits one of several readers may hold."""
        return max(1, LOGITS // self.model.config.get_text_config().vocab_size // readers(self.device))

    def _scores(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability of each target (N, T) under logits (N, V), and whether it is the likeliest."""
        parts = []
        # A few rows at a time stay in the processor's cache: five times as fast as all at once.
        rows = max(1, CACHED // logits.shape[-1])
        for some, wanted in zip(logits.split(rows), targets.split(rows), strict=True):
            scores = torch.log_softmax(some, dim=-1, dtype=self.softmax_dtype)
            parts.append((scores.gather(1, wanted), likeliest(some)[:, None] == wanted))
        scores, greedy = zip(*parts, strict=True)
        return torch.cat(scores).cpu().double(), torch.cat(greedy)

    def _isolated(self, tokens: int) -> bool:
        """Whether a text of this length must have a batch to itself.

        In a batch, padding stands between a question and its answers. A sliding window counts it, so a
        text that might not fit the window with as much padding as itself is read without any.
        """
        window = sliding_window(self.model)
        return bool(window) and 2 * tokens > window

    def _batches(self, group, questions, requests):
        """Questions of like length together, within the token budget."""
        batch, rows, longest = [], 0, 0
        most = BATCH_TOKENS // readers(self.device)
        for context in sorted(group, key=len):
            size = max(len(requests[i][2]) for i in questions[context]) + len(context)
            full = (rows + len(questions[context])) * max(longest, size) > most
            if batch and (full or self._isolated(size)):
                yield batch
                batch, rows, longest = [], 0, 0
            batch.append(context)
            rows, longest = rows + len(questions[context]), max(longest, size)
        yield batch

    @torch.no_grad()
    def _answer(self, past: DynamicCache, asked, most: int, places) -> list[tuple[float, bool]]:
        """(log-likelihood, is it the greedy answer) of every (context, continuation) asked.

        All contexts begin with what is in ``past``. Of a continuation the last token need not be read:
        those that differ in it only, such as the letters of a multiple choice, are one row.
        """
        rows: dict[tuple, list[int]] = {}
        for i, (context, continuation) in enumerate(asked):
            rows.setdefault((context, tuple(continuation[:-1])), []).append(i)
        answers: list = [None] * len(asked)
        for part, cache, known in self._passes(past, rows, most):
            members = [rows[row] for row, _ in part]
            continuations = [[asked[i][1] for i in each] for each in members]
            found = self._scores_after(cache, known, [text for _, text in part], continuations, places)
            for i, answer in zip(chain(*members), chain(*found), strict=True):
                answers[i] = answer
        return answers

    def _passes(self, past: DynamicCache, rows, most: int):
        """Yield ((row, what is left to read of it) of each row together, what was read before, its mask).

        A row is a context and the tokens after it. A context of one row is read in one go with it; one
        of several is read first, up to its last token, and then each of them.
        """
        shared = past.get_seq_length()
        count = Counter(context for context, _ in rows)
        alone = [
            ((context, rest), (*context[shared:], *rest)) for context, rest in rows if count[context] == 1
        ]
        for part in _like_lengths(alone, most):
            yield part, shared_cache(past), None

        first = {context: place for place, context in enumerate(c for c in count if count[c] > 1)}
        if not first:
            return
        # Padding stands on the right, where no question sees it, so no mask is needed.
        questions, known = self._padded([context[shared:-1] for context in first])  # (Q, L)
        cache = shared_cache(past)
        if questions.shape[1]:
            self.model(questions, past_key_values=cache, use_cache=True, logits_to_keep=1)
        known = torch.cat([known.new_ones(len(first), shared), known], dim=1)
        several = [((context, rest), (context[-1], *rest)) for context, rest in rows if context in first]
        for part in _like_lengths(several, most):
            of = torch.tensor([first[context] for (context, _), _ in part], device=self.device)
            yield part, _rows_of(cache, of), known[of]

    def _scores_after(self, cache, known, texts, continuations, places) -> list[list[tuple[float, bool]]]:
        """For each text, the scores of its continuations, which begin within it and end one token after it.

        ``known`` (rows, L) marks what in the cache is a token; None where all is.
        """
        tokens, mask = self._padded(texts)
        inputs = {}
        if known is not None:
            positions = known.sum(dim=1, keepdim=True) + torch.arange(tokens.shape[1], device=self.device)
            inputs = {"attention_mask": torch.cat([known, mask], dim=1), "position_ids": positions}
        counts = [len(each[0]) for each in continuations]
        wanted = [
            (row, place)
            for row, (text, count) in enumerate(zip(texts, counts, strict=True))
            for place in range(len(text) - count, len(text))
        ]
        places.wanted = torch.tensor(wanted, device=self.device).unbind(dim=1)
        logits = self.model(tokens, past_key_values=cache, use_cache=True, **inputs).logits[0]  # (N, V)
        answers = []
        for row, of_row in zip(logits.split(counts), continuations, strict=True):
            # (length of the answers, number of them): the row's probabilities are taken once for all.
            scores, greedy = self._scores(row, torch.tensor(of_row, device=self.device).T)
            answers.append(list(zip(scores.sum(dim=0).tolist(), greedy.all(dim=0).tolist(), strict=True)))
        return answers

    def _padded(self, sequences: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Token sequences as one tensor padded on the right, and the mask (1: a token) of the same shape."""
        tokens = [torch.tensor(sequence, dtype=torch.long) for sequence in sequences]
        masks = [torch.ones_like(sequence) for sequence in tokens]
        return tuple(pad_sequence(each, batch_first=True).to(self.device) for each in (tokens, masks))


@contextmanager
def _head_reads(model):
    """Yield places whose ``wanted`` = (rows (N,), tokens (N,)) a thread sets before it calls the model.

    That one call then gives the logits (1, N, V) of these N tokens of its texts, and of no others.
    """
    places = threading.local()

    def choose(_, args):
        rows_and_tokens, places.wanted = getattr(places, "wanted", None), None
        return args if rows_and_tokens is None else args[0][rows_and_tokens][None]

    handle = model.get_output_embeddings().register_forward_pre_hook(choose)
    try:
        yield places
    finally:
        handle.remove()


def _rows_of(past: DynamicCache, rows: Tensor) -> DynamicCache:
    """The cache of some of its rows, each as often as it is named; ``past`` stays as it is."""
    chosen = copy.copy(past)
    chosen.layers = [copy.copy(layer) for layer in past.layers]
    chosen.batch_select_indices(rows)
    return chosen


def _like_lengths(rows: list[tuple[tuple, tuple[int, ...]]], most: int):
    """Split rows (name, tokens) into batches of at most ``most`` tokens.

    Their padding costs less than another call would.
    """
    part: list[tuple[tuple, tuple[int, ...]]] = []
    for row in sorted(rows, key=lambda row: -len(row[1])):
        longest = len(part[0][1]) if part else 0
        if part and ((len(part) + 1) * longest > most or (len(part) >= 8 and len(row[1]) < 0.75 * longest)):
            yield part
            part = []
        part.append(row)
    if part:
        yield part


def _by_prefix(contexts: list[tuple[int, ...]], least: int = MIN_SHARED):
    """Yield (prefix, contexts that begin with it); those with no prefix of ``least`` tokens or so come last."""
    starts: dict[tuple[int, ...], list] = {}
    for context in contexts:
        starts.setdefault(context[:least], []).append(context)
    alone = []
    for group in starts.values():
        # At least one token stays with each question, since its logits start the answers.
        limit = min(map(len, group)) - 1
        prefix = os.path.commonprefix(group)[:limit]
        if len(group) > 1 and len(prefix) >= least - 1:
            yield tuple(prefix), group
        else:
            alone += group
    if alone:
        yield (), alone
