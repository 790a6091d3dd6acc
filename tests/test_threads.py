"""Texts side by side: in order, in threads that share torch's, and torch's number of threads is back afterwards."""

import threading

import pytest
import torch

from widthprune.evaluation.engine.threads import MOST, readers, side_by_side

CPU = torch.device("cpu")


@pytest.fixture
def six_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(6)
    yield
    assert torch.get_num_threads() == 6
    torch.set_num_threads(before)


def test_as_many_readers_as_threads_up_to_four_and_one_on_an_accelerator(six_threads):
    assert (readers(CPU), readers(torch.device("cuda"))) == (MOST, 1)
    torch.set_num_threads(3)
    assert readers(CPU) == 3
    torch.set_num_threads(6)


def test_three_texts_share_six_threads(six_threads):
    meeting = threading.Barrier(3)

    def read(text):
        meeting.wait(timeout=60)  # all three are here at once, or this fails
        return text, torch.get_num_threads()

    assert side_by_side(read, "abc", CPU) == [("a", 2), ("b", 2), ("c", 2)]
    assert torch.get_num_threads() == 6


@pytest.mark.parametrize(("items", "device"), [("a", "cpu"), ("abc", "cuda"), ("", "cpu")])
def test_one_text_or_an_accelerator_has_all_threads_and_no_other_reader(items, device, six_threads):
    def read(text):
        return text, torch.get_num_threads(), threading.current_thread()

    expected = [(item, 6, threading.main_thread()) for item in items]
    assert side_by_side(read, items, torch.device(device)) == expected


def test_an_error_comes_through_and_the_threads_are_back(six_threads):
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda n: 1 / n, [1, 0, 2], CPU)
    assert torch.get_num_threads() == 6
