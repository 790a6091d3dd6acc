"""safetensors files on disk: headers first, tensors one at a time, read and written at their places.

Done here and not by safetensors, whose memory map would count the whole file as resident, and which
cannot write a file that does not fit in memory.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import WidthPruneError, pickle_remedy

INDEX = "model.safetensors.index.json"
CHUNK = 16 * 2**20  # bytes copied at a time


@dataclass(frozen=True)
class Stored:
    """One tensor of a safetensors file: where its bytes lie."""

    name: str
    file: Path
    dtype: str  # as safetensors names it
    shape: tuple[int, ...]
    start: int
    nbytes: int

    def pruned(self, file: Path, start: int, shape: tuple[int, ...]) -> "Stored":
        """The same tensor in another file, with another shape."""
        return Stored(self.name, file, self.dtype, shape, start, self.nbytes_of(shape))

    def nbytes_of(self, shape: tuple[int, ...]) -> int:
        """Bytes of a tensor of this dtype with another shape."""
        whole = math.prod(self.shape)
        return self.nbytes * math.prod(shape) // whole if whole else 0

    def slab(self, index: int) -> "Stored":
        """Entry ``index`` of the first axis."""
        nbytes = self.nbytes // self.shape[0]
        return Stored(self.name, self.file, self.dtype, self.shape[1:], self.start + index * nbytes, nbytes)


def read_headers(source: Path) -> dict[str, Stored]:
    """Every tensor of a checkpoint, by name, in the order of the files.

    Raises
    ------
    WidthPruneError
        If there are no safetensors weights, or a file is missing or damaged.
    """
    index = source / INDEX
    if index.exists():
        try:
            weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            files = [source / name for name in dict.fromkeys(weight_map.values())]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise WidthPruneError(f"{index} is damaged: copy it again") from None
    else:
        # A file of that name is the model; others may hold the same weights in another layout.
        single = source / "model.safetensors"
        weight_map, files = None, [single] if single.exists() else sorted(source.glob("*.safetensors"))
    if not files:
        if any(source.glob("*.bin")):
            raise WidthPruneError(pickle_remedy(str(source)))
        raise WidthPruneError(
            f"{source} holds no safetensors weights: name a directory that save_pretrained wrote"
        )
    tensors = {}
    for file in files:
        if not file.exists():
            raise WidthPruneError(f"{file} is missing, though {INDEX} names it: copy it again")
        for stored in _read_header(file):
            tensors[stored.name] = stored
    if weight_map and (absent := [name for name in weight_map if name not in tensors]):
        raise WidthPruneError(f"{index} names {absent[0]}, which no file holds: copy the checkpoint again")
    return tensors


def _read_header(file: Path) -> Iterator[Stored]:
    damaged = WidthPruneError(f"{file} is a damaged safetensors file: download or copy it again")
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 0 < length <= size - 8:
            raise damaged
        try:
            header = json.loads(stream.read(length))
            header.pop("__metadata__", None)
            entries = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
            for name, entry in entries:
                start, end = entry["data_offsets"]
                if not 0 <= start <= end <= size - 8 - length:
                    raise damaged
                yield Stored(
                    name, file, entry["dtype"], tuple(entry["shape"]), 8 + length + start, end - start
                )
        except (ValueError, KeyError, TypeError, AttributeError):
            raise damaged from None


def create_file(path: Path, own: list[Stored], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Stored]:
    """A safetensors file with the header of the tensors ``own`` in new shapes, and room for their bytes.

    Returns
    -------
    dict
        Where each tensor is to be written.
    """
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for stored in own:
        shape = shapes[stored.name]
        end = offset + stored.nbytes_of(shape)
        header[stored.name] = {"dtype": stored.dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    # Padded so that the data starts at a multiple of 8, as the format asks.
    text += b" " * (-len(text) % 8)
    with path.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        out.truncate(8 + len(text) + offset)
    start = 8 + len(text)
    return {
        stored.name: stored.pruned(path, start + header[stored.name]["data_offsets"][0], shapes[stored.name])
        for stored in own
    }


def read_into(stored: Stored, buffer) -> None:
    """Fill a writable buffer of ``stored.nbytes`` bytes with a tensor's bytes."""
    with stored.file.open("rb", buffering=0) as stream:
        stream.seek(stored.start)
        view = memoryview(buffer)
        while view:
            count = stream.readinto(view)
            if not count:
                raise WidthPruneError(f"{stored.file} became shorter while it was read: copy it again")
            view = view[count:]


def write_from(stored: Stored, buffer) -> None:
    """Write a tensor's bytes to its place."""
    # One write call takes at most 2 GiB and may take less than it was given.
    with stored.file.open("r+b", buffering=0) as stream:
        stream.seek(stored.start)
        view = memoryview(buffer)
        while view:
            view = view[stream.write(view) :]


def copy_bytes(stored: Stored, copies: list[Stored]) -> None:
    """Write a tensor's bytes to the places of its copies, a chunk at a time."""
    buffer = bytearray(min(CHUNK, stored.nbytes))
    for done in range(0, stored.nbytes, CHUNK):
        view = memoryview(buffer)[: min(CHUNK, stored.nbytes - done)]
        chunk = dict(dtype=stored.dtype, shape=(), nbytes=len(view), name=stored.name)
        read_into(Stored(file=stored.file, start=stored.start + done, **chunk), view)
        for copy in copies:
            write_from(Stored(file=copy.file, start=copy.start + done, **chunk), view)
