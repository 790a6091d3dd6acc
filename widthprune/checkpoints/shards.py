"""safetensors files on disk: headers first, tensors one at a time, read and written at their places.

safetensors judges the headers. Reading and writing is done here: its memory map would count the whole file
as resident, and it cannot write a file that does not fit in memory.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ..errors import WidthPruneError, first_line, pickle_remedy
from ..models.files import INDEX, WEIGHTS, names_beside, no_file, own_file, read_object, weight_files

CHUNK = 16 * 2**20  # bytes copied at a time
# What can be pruned: names of safetensors to names of torch.
DTYPES = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16"}


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
        If there are no safetensors weights, if a file is missing, damaged or outside the directory, or if
        two files hold a tensor of one name.
    """
    names = _weight_files(source)
    indexed = names != [WEIGHTS] and (source / INDEX).exists()
    if not names:
        if any(source.glob("*.bin")):
            raise WidthPruneError(pickle_remedy(str(source)))
        raise WidthPruneError(
            f"{source} holds no safetensors weights: name a directory that save_pretrained wrote"
        )
    tensors = {}
    for name in names:
        file = own_file(source, name)
        if not file.is_file():
            raise WidthPruneError(no_file(source, name, f", though {INDEX} names it" * indexed))
        for stored in _read_header(file):
            if stored.name in tensors:
                raise WidthPruneError(
                    f"{stored.name} is in {tensors[stored.name].file} and in {file}: copy the checkpoint again"
                )
            tensors[stored.name] = stored
    weight_map = read_object(source, INDEX)["weight_map"] if indexed else {}
    if absent := [name for name in weight_map if name not in tensors]:
        raise WidthPruneError(
            f"{source / INDEX} names {absent[0]}, which no file holds: copy the checkpoint again"
        )
    return tensors


def _weight_files(source: Path) -> list[str]:
    # Files of other names than transformers looks for are a model's, too.
    return weight_files(source) or sorted(path.name for path in source.glob("*.safetensors"))


def stamps(source: Path) -> dict[Path, tuple[int, int, int] | None]:
    """Inode, size and time of change of every file that a pruned model is made of; None for one that is not there."""
    names = {"config.json", INDEX, WEIGHTS, *_weight_files(source), *names_beside(source)}
    return {source / name: _stamp(source / name) for name in sorted(names)}


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def check_unchanged(source: Path, noted: Mapping[Path, tuple[int, int, int] | None]) -> None:
    """Refuse files that are not as their `stamps` say: what was read of them would be a mixture of two models.

    Raises
    ------
    WidthPruneError
        If one was written to, replaced, removed, or has come.
    """
    now = stamps(source)
    if changed := [file for file in (*noted, *now) if noted.get(file) != now.get(file)]:
        raise WidthPruneError(
            f"the source changed while it was read: {changed[0]} is not the file that it was: wait until nobody writes "
            "there, and prune again"
        )


def _read_header(file: Path) -> Iterator[Stored]:
    try:
        # The library is the judge of a header: shapes, dtypes, offsets without gaps, the file's length.
        # It maps the file, of which only the header becomes resident.
        with safe_open(file, framework="np"):
            pass
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length))
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise WidthPruneError(
            f"{file} is a damaged safetensors file ({first_line(error):.200}): download or copy it again"
        ) from None
    header.pop("__metadata__", None)
    for name, entry in sorted(header.items(), key=lambda item: _entry(item[1])[2]):
        dtype, shape, (start, end) = _entry(entry)
        yield Stored(name, file, dtype, tuple(shape), 8 + length + start, end - start)


def _entry(entry: dict | list) -> tuple[str, list[int], list[int]]:
    """dtype, shape and offsets, which the library reads from a list as well."""
    return (
        tuple(entry) if isinstance(entry, list) else (entry["dtype"], entry["shape"], entry["data_offsets"])
    )


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
    path.parent.mkdir(parents=True, exist_ok=True)
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
    try:
        with stored.file.open("rb") as stream:
            stream.seek(stored.start)
            if stream.readinto(buffer) < stored.nbytes:
                raise WidthPruneError(f"{stored.file} became shorter while it was read: copy it again")
    except OSError as error:  # of a read that fails, which names no file
        raise WidthPruneError(f"{stored.file} cannot be read ({error.strerror}): copy it again") from None


def read_tensor(stored: Stored):
    """One tensor of a file as torch has it, in its own dtype, which must be one of `DTYPES`."""
    import torch

    buffer = torch.empty(stored.nbytes, dtype=torch.uint8)
    read_into(stored, buffer.numpy())
    return buffer.view(getattr(torch, DTYPES[stored.dtype])).reshape(stored.shape)


def write_from(stored: Stored, buffer) -> None:
    """Write a tensor's bytes to its place."""
    with stored.file.open("r+b") as stream:
        stream.seek(stored.start)
        stream.write(buffer)


def copy_bytes(stored: Stored, copies: list[Stored]) -> None:
    """Write a tensor's bytes to the places of its copies, a chunk at a time."""
    buffer = bytearray(min(CHUNK, stored.nbytes))
    for done in range(0, stored.nbytes, CHUNK):
        view = memoryview(buffer)[: min(CHUNK, stored.nbytes - done)]
        chunk = dict(dtype=stored.dtype, shape=(), nbytes=len(view), name=stored.name)
        read_into(Stored(file=stored.file, start=stored.start + done, **chunk), view)
        for copy in copies:
            write_from(Stored(file=copy.file, start=copy.start + done, **chunk), view)
