"""Headers of safetensors files: what we accept the library accepts, and the other way round."""

import copy
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from widthprune import WidthPruneError
from widthprune.checkpoints.shards import _read_header, create_file, read_headers, read_into

TENSORS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.arange(4, dtype=np.int8),
    "c": np.zeros((0, 3)),
}
ODD = st.sampled_from(
    [None, -1, 0, 1.5, True, "", "F32", "F33", [], {}, [-1, -6], [6], [0, 24], [24, 28], 2**63]
)
BREAKS = st.lists(
    st.one_of(
        st.tuples(
            st.just("field"),
            st.sampled_from("abc"),
            st.sampled_from(["dtype", "shape", "data_offsets", "x"]),
            ODD,
        ),
        st.tuples(st.just("entry"), st.sampled_from(["a", "d", "__metadata__"]), ODD),
        st.tuples(st.just("drop"), st.sampled_from("abc")),
        st.tuples(st.just("list"), st.sampled_from("abc")),
        st.tuples(st.just("twice"), st.sampled_from("abc")),
        st.tuples(st.just("bytes"), st.integers(0, 300), st.integers(0, 255)),
        st.tuples(st.just("cut"), st.integers(0, 300)),
        st.tuples(st.just("pad"), st.integers(1, 8)),
    ),
    max_size=3,
)


def broken(whole: bytes, breaks) -> bytes:
    """A file with the changes named by ``breaks`` in its header, or in its bytes."""
    length = int.from_bytes(whole[:8], "little")
    header, data, again = json.loads(whole[8 : 8 + length]), whole[8 + length :], ""
    for kind, name, *rest in breaks:
        entry = header.get(name)
        if kind == "field" and isinstance(entry, dict):
            entry[rest[0]] = copy.deepcopy(rest[1])
        elif kind == "entry":
            header[name] = copy.deepcopy(rest[0])  # changed below, and hypothesis keeps its own
        elif kind == "drop":
            header.pop(name, None)
        elif kind == "list" and isinstance(entry, dict):
            header[name] = list(entry.values())
        elif kind == "twice" and name in header:
            again = f",{json.dumps(name)}:{json.dumps(entry)}"
    text = (json.dumps(header)[:-1] + again + "}").encode()
    whole = len(text).to_bytes(8, "little") + text + data
    for kind, place, *rest in breaks:
        if kind == "bytes" and place < len(whole):
            whole = whole[:place] + bytes(rest) + whole[place + 1 :]
        elif kind == "cut":
            whole = whole[:place]
        elif kind == "pad":
            whole += bytes(place)
    return whole


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("shards") / "model.safetensors"
    save_file(TENSORS, path, {"format": "pt"})
    return path


@given(breaks=BREAKS)
@settings(max_examples=300, deadline=None)
def test_the_library_is_the_judge_of_headers(breaks, file):
    own = file.with_name("broken.safetensors")
    own.write_bytes(broken(file.read_bytes(), breaks))
    try:
        with safe_open(own, framework="np") as opened:
            names = opened.keys()
            theirs = {name: opened.get_slice(name) for name in names}
            theirs = {name: (s.get_dtype(), tuple(s.get_shape())) for name, s in theirs.items()}
    except SafetensorError:
        with pytest.raises(WidthPruneError, match="is a damaged safetensors file") as caught:
            list(_read_header(own))
        assert "\n" not in str(caught.value)
    else:
        assert {s.name: (s.dtype, s.shape) for s in _read_header(own)} == theirs


def test_what_is_read_and_what_is_written(file, tmp_path):
    stored = read_headers(file.parent)
    for name, tensor in TENSORS.items():
        buffer = np.empty(stored[name].nbytes, dtype=np.uint8)
        if buffer.size:
            read_into(stored[name], buffer)
        assert buffer.tobytes() == tensor.tobytes()
    create_file(
        tmp_path / "sub" / "new.safetensors", list(stored.values()), {"a": (1, 3), "b": (2,), "c": (0, 3)}
    )
    assert {name: t.shape for name, t in load_file(tmp_path / "sub" / "new.safetensors").items()} == {
        "a": (1, 3), "b": (2,), "c": (0, 3)
    }  # fmt: skip
