"""lm-eval's Hugging Face model, with every shared prefix read once.

Multiple choice asks a model for the likelihood of several answers after one question, and few-shot
tasks put the same examples before every question. lm-eval reads each pair of question and answer in
full; here the examples are read once per task, a question once, and then only the answers. The
results are those of `lm_eval.models.huggingface.HFLM` up to rounding: a test compares the two.
"""

import copy
import os

import torch
from lm_eval.models.huggingface import HFLM
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

MIN_SHARED = 32  # tokens; below this a cache of its own costs more than it saves
BATCH_TOKENS = 16384  # tokens in the cache of one batch, rows times length


class PrefixLM(HFLM):
    """`HFLM` with prefix sharing for log-likelihoods; generation and perplexity are inherited."""

    def _loglikelihood_tokens(self, requests, disable_tqdm=False, override_bs=None):
        # override_bs is lm-eval's sign for the windows of a perplexity: they share nothing, and one
        # window's logits fill gigabytes, so they go one by one.
        if override_bs is not None:
            windows = []
            for request in requests:
                windows += super()._loglikelihood_tokens([request], True, 1)
            return windows
        answers: list = [None] * len(requests)
        questions: dict[tuple[int, ...], list[int]] = {}
        left_over = []
        for i, (_, context, continuation) in enumerate(requests):
            if len(context) + len(continuation) > self._longest:
                left_over.append(i)
            else:
                questions.setdefault(tuple(context), []).append(i)
        for prefix, group in _by_prefix(list(questions)):
            past = self._read_prefix(prefix)
            for batch in self._batches(len(prefix), group, questions, requests):
                asked = [(context, requests[i][2], i) for context in batch for i in questions[context]]
                for (_, _, i), answer in zip(
                    asked, self._answer(len(prefix), past, batch, asked), strict=True
                ):
                    answers[i] = answer
        rest = super()._loglikelihood_tokens([requests[i] for i in left_over], True) if left_over else []
        for i, answer in zip(left_over, rest, strict=True):
            answers[i] = answer
        for (text, _, _), answer in zip(requests, answers, strict=True):
            if text is not None:
                self.cache_hook.add_partial("loglikelihood", text, answer)
        return answers

    @property
    def _longest(self) -> int:
        """Tokens that one cache without truncation or a sliding window can hold."""
        window = getattr(self.config.get_text_config(), "sliding_window", None)
        # Padding between question and answer takes slots of the window too: half leaves room for it.
        return min(self.max_length, window // 2 if window else self.max_length)

    def _read_prefix(self, prefix: tuple[int, ...]) -> DynamicCache:
        past = DynamicCache()
        if prefix:
            with torch.no_grad():
                tokens = torch.tensor([prefix], device=self.device)
                self.model(tokens, past_key_values=past, use_cache=True, logits_to_keep=1)
        return past

    def _batches(self, shared, group, questions, requests):
        """Questions of like length together, within the token budget."""
        batch, rows, longest = [], 0, 0
        for context in sorted(group, key=len):
            size = max(len(requests[i][2]) for i in questions[context]) + len(context)
            if batch and (rows + len(questions[context])) * max(longest, size) > BATCH_TOKENS:
                yield batch
                batch, rows, longest = [], 0, 0
            batch.append(context)
            rows, longest = rows + len(questions[context]), max(longest, size)
        yield batch

    @torch.no_grad()
    def _answer(self, shared: int, past: DynamicCache, batch, asked) -> list[tuple[float, bool]]:
        """(log-likelihood, is it the greedy answer) of every (context, continuation) asked."""
        own = [torch.tensor(context[shared:]) for context in batch]
        lengths = torch.tensor([len(tokens) for tokens in own])
        tokens, mask = self._padded(own, lengths)  # (Q, L)
        past = copy.deepcopy(past)
        if shared:
            past.batch_repeat_interleave(len(batch))
        before = torch.ones(len(batch), shared, dtype=torch.long, device=self.device)
        mask = torch.cat([before, mask], dim=1)
        positions = (shared + torch.arange(tokens.shape[1], device=self.device)).expand_as(tokens)
        last, where = torch.unique(lengths - 1, return_inverse=True)
        logits = self._forward(tokens, mask, positions, past, last)[torch.arange(len(batch)), where]  # (Q, V)

        row_of = {context: row for row, context in enumerate(batch)}
        rows = torch.tensor([row_of[context] for context, _, _ in asked])
        continuations = [torch.tensor(continuation) for _, continuation, _ in asked]
        first = torch.stack([continuation[0] for continuation in continuations])
        totals = logits[rows, first].double()
        greedy = logits.argmax(dim=1)[rows] == first

        longer = [r for r, continuation in enumerate(continuations) if len(continuation) > 1]
        if longer:
            own = [continuations[r][:-1] for r in longer]
            lengths_a = torch.tensor([len(tokens) for tokens in own])
            tokens, mask_a = self._padded(own, lengths_a)  # (A, M)
            past.batch_select_indices(rows[longer].to(self.device))
            start = (shared + lengths[rows[longer]]).to(self.device)
            positions = start[:, None] + torch.arange(tokens.shape[1], device=self.device)
            mask = torch.cat([mask[rows[longer].to(self.device)], mask_a], dim=1)
            logits = self._forward(tokens, mask, positions, past, 0)  # (A, M, V)
            for row, r in enumerate(longer):
                targets = continuations[r][1:]
                scores = logits[row, : len(targets)]
                totals[r] += scores.gather(1, targets[:, None]).double().sum()
                greedy[r] &= bool((scores.argmax(dim=1) == targets).all())
        return [(float(total), bool(is_greedy)) for total, is_greedy in zip(totals, greedy, strict=True)]

    def _padded(self, sequences: list[Tensor], lengths: Tensor) -> tuple[Tensor, Tensor]:
        # Padded on the right: a padding token then still sees real ones, and never yields NaN.
        tokens = pad_sequence(sequences, batch_first=True)
        mask = (torch.arange(tokens.shape[1])[None] < lengths[:, None]).long()
        return tokens.to(self.device), mask.to(self.device)

    def _forward(self, tokens, mask, positions, past, keep) -> Tensor:
        """Log-probabilities (rows, kept positions, vocabulary); ``keep`` 0 keeps every position."""
        if isinstance(keep, Tensor):
            keep = keep.to(self.device)
        out = self.model(
            tokens,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=past,
            use_cache=True,
            logits_to_keep=keep,
        )
        return torch.log_softmax(out.logits, dim=-1, dtype=self.softmax_dtype).cpu()


def _by_prefix(contexts: list[tuple[int, ...]]):
    """Yield (prefix, contexts that begin with it); contexts with no prefix worth a cache come last."""
    starts: dict[tuple[int, ...], list] = {}
    for context in contexts:
        starts.setdefault(context[:MIN_SHARED], []).append(context)
    alone = []
    for group in starts.values():
        # At least one token stays with each question, since its logits start the answers.
        limit = min(map(len, group)) - 1
        prefix = os.path.commonprefix(group)[:limit]
        if len(group) > 1 and len(prefix) >= MIN_SHARED - 1:
            yield tuple(prefix), group
        else:
            alone += group
    if alone:
        yield (), alone
