"""lm-eval's own Hugging Face model, which names the item that it cannot score."""

from lm_eval.models.huggingface import HFLM

from ...errors import WidthPruneError


class StockLM(HFLM):
    """`HFLM` itself; an answer without a token of its own ends in one line that names it.

    lm-eval scores the tokens that question and answer together have more than the question alone. Where
    a token reaches across the join there may be none left: such an answer has no likelihood to compare
    with the others', and 0, the logarithm of certainty, would let it win.
    """

    engine = "stock"  # as it stands in a result's provenance

    def loglikelihood(self, requests, disable_tqdm=False):
        """As `HFLM.loglikelihood`; raises WidthPruneError with the task and the item of such an answer."""
        for request in requests:
            if not request.args[1]:
                raise _no_token(request)
        try:
            return super().loglikelihood(requests, disable_tqdm)
        except _Swallowed as error:
            (text,) = error.args
            raise _no_token(next(request for request in requests if request.args == text)) from None

    def _loglikelihood_tokens(self, requests, disable_tqdm=False, override_bs=None):
        for text, _, answer in requests:
            if not answer:
                raise _Swallowed(text)
        return super()._loglikelihood_tokens(requests, disable_tqdm, override_bs)


class _Swallowed(Exception):
    """The (question, answer) of which the answer has no token."""


def _no_token(request) -> WidthPruneError:
    # The texts that are tried before the work are of no task.
    item = "a short text" if request.doc_id is None else f"{request.task_name}: item {request.doc_id}"
    return WidthPruneError(
        f"{item} cannot be scored, since its answer {request.args[1]!r} has no "
        "token of its own in this tokenizer: leave out this task, or end the question before the answer's first word"
    )
