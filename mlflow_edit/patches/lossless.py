"""Write one tensor as its difference to another, lossless and small."""

import torch
import zstandard
from torch import Tensor

from mlflow_edit.errors import CorruptPatch

LEVEL = 9
BLOCK = 2**17  # elements that are turned at once: they stay in a core's cache
_WORDS = {torch.float32: torch.int32, torch.float16: torch.int16, torch.bfloat16: torch.int16}


def encoded(edited: Tensor, reference: Tensor) -> Tensor:
    """Return what turns the bits of `reference` into those of `edited`, as uint8 `(n_bytes,)`.

    XOR of both as integers, the bytes of equal weight together, compressed by zstd: what training
    moved a little differs in few and low bits.
    """
    words = _words(edited) ^ _words(reference)
    grouped = words.view(torch.uint8).reshape(-1, words.itemsize).T.contiguous()
    data = zstandard.ZstdCompressor(level=LEVEL).compress(grouped.numpy().tobytes())
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def decoded(packed: Tensor, reference: Tensor) -> Tensor:
    """Return the tensor that `encoded` was given.

    Raises:
        CorruptPatch: the bytes are not of a tensor of this size and type.
    """
    words = _words(reference).clone()
    check_packed(packed, words.nbytes)
    try:
        unpacker = zstandard.ZstdDecompressor()
        data = unpacker.decompress(packed.numpy().tobytes(), allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CorruptPatch(f"a dense change cannot be unpacked: {error}") from error
    if len(data) != words.nbytes:
        raise CorruptPatch(f"a dense change holds {len(data)} bytes, not {words.nbytes}")
    if data:
        planes = torch.frombuffer(bytearray(data), dtype=torch.uint8).view(words.itemsize, -1)
        for start in range(0, len(words), BLOCK):
            block = words[start : start + BLOCK]
            for i, plane in enumerate(planes):
                block ^= plane[start : start + BLOCK].to(words.dtype) << 8 * i
    return words.view(reference.dtype).reshape(reference.shape)


def check_packed(packed: Tensor, n_bytes: int) -> None:
    """Check that what is packed says of itself that it holds `n_bytes`; nothing is unpacked.

    Raises:
        CorruptPatch: it is not a frame of zstd, or of another size.
    """
    try:
        said = zstandard.frame_content_size(packed[:64].numpy().tobytes())
    except zstandard.ZstdError as error:
        raise CorruptPatch(f"a dense change is not packed by zstd: {error}") from error
    if said != n_bytes:
        raise CorruptPatch(f"a dense change says that it holds {said} bytes, not {n_bytes}")


def _words(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous().flatten().view(_WORDS[tensor.dtype])
