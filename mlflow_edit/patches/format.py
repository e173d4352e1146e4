"""Write and read patches: the only code that writes tensors, and the gate they come back through.

A patch file is a safetensors file with one metadata entry, `mledit`: the canonical JSON of
`{format, kind, header, digest}`. The digest is of the header and the logical content of the
tensors. Reading checks format, digest, dtypes, shapes and finiteness, every time.
"""

import json
from collections.abc import Mapping, Sequence
from reprlib import repr as short
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from mlflow_edit.core.digest import canonical_json, tensor_digest
from mlflow_edit.errors import CorruptPatch, DigestMismatch, InvalidInputError, UnsupportedFormat
from mlflow_edit.patches.codebook import Codebook
from mlflow_edit.patches.delta import Delta
from mlflow_edit.patches.encoder_codebook import EncoderCodebook
from mlflow_edit.patches.memory import GatedMemory, Memory
from mlflow_edit.patches.patch import Patch
from mlflow_edit.patches.tensor_bytes import DTYPES, same_bits, tensor_bytes

PATCH_FORMAT = "mledit.patch/1"
MAX_HEADER_BYTES = 256 * 1024 * 1024

FORMS: Mapping[str, type[Patch]] = {
    form.form: form for form in (Codebook, EncoderCodebook, Delta, Memory, GatedMemory)
}


class Packed(NamedTuple):
    """What a patch file holds: the form it is written in, a header, and tensors by name."""

    form: str
    header: dict[str, Any]
    tensors: dict[str, Tensor]

    @property
    def digest(self) -> str:
        """Name the content by its form, its header and the logical content of its tensors."""
        said = {"format": PATCH_FORMAT, "kind": self.form, "header": self.header}
        return tensor_digest(said, {name: tensor_bytes(t) for name, t in self.tensors.items()})


def patch_digest(patch: Patch) -> str:
    """Name a patch by its header and the logical content of its tensors."""
    return _packed(patch).digest


def write_patch(patch: Patch) -> bytes:
    """Serialise a patch. Law: `read_patch(write_patch(p)) == p`."""
    return pack(_packed(patch))


def read_patch(data: bytes, *, digest: str | None = None) -> Patch:
    """Read and verify a patch.

    Args:
        data: the bytes of the file.
        digest: the digest by which the batch names the patch.

    Raises:
        CorruptPatch: truncated, malformed, or holding values that cannot be.
        UnsupportedFormat: of another format version or kind.
        DigestMismatch: the content has not the digest that names it.
    """
    packed = unpack(data, forms=sorted(FORMS), digest=digest)
    patch = FORMS[packed.form].from_parts(packed.header, packed.tensors)
    tensors = patch.tensors()
    canonical = patch.header() == packed.header and set(tensors) == set(packed.tensors)
    if not canonical or any(not same_bits(tensors[n], t) for n, t in packed.tensors.items()):
        raise CorruptPatch("the patch is not in canonical order")
    return patch


def pack(packed: Packed) -> bytes:
    """Write a patch file."""
    metadata = {
        "format": PATCH_FORMAT,
        "kind": packed.form,
        "header": packed.header,
        "digest": packed.digest,
    }
    tensors = {name: tensor.contiguous().clone() for name, tensor in packed.tensors.items()}
    return save_tensors(tensors, metadata={"mledit": canonical_json(metadata).decode()})


def unpack(data: bytes, *, forms: Sequence[str], digest: str | None = None) -> Packed:
    """Read a patch file and verify its digest; what the parts mean is for others to check.

    Raises:
        CorruptPatch, UnsupportedFormat, DigestMismatch: as `read_patch`.
    """
    metadata = _metadata(data)
    found, kind = metadata["format"], metadata["kind"]
    if found != PATCH_FORMAT or kind not in list(forms):  # of any type: a list is not hashable
        raise UnsupportedFormat(
            f"the patch has format {short(found)} and kind {short(kind)}; "
            f"this release reads {PATCH_FORMAT!r}, {list(forms)}",
            hint="Install the release of mlflow-edit that wrote it, or a newer one.",
        )
    try:
        tensors = load_tensors(data)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise CorruptPatch(f"the patch file is damaged: {error}") from error
    if any(tensor.dtype not in DTYPES for tensor in tensors.values()):
        raise CorruptPatch("the patch holds tensors of a type that patches do not use")
    packed = Packed(kind, metadata["header"], tensors)
    try:
        actual = packed.digest
    except InvalidInputError as error:
        raise CorruptPatch(f"the patch's header is malformed: {error}") from error
    if metadata["digest"] != actual or (digest is not None and digest != actual):
        wanted = digest or str(metadata["digest"])
        raise DigestMismatch(
            f"the patch has digest {actual[:12]}, expected {wanted[:12]}",
            hint="The stored file was changed or damaged after it was written.",
        )
    return packed


def _packed(patch: Patch) -> Packed:
    return Packed(patch.form, patch.header(), patch.tensors())


def _metadata(data: bytes) -> dict[str, Any]:
    """Parse the header strictly: safetensors itself overlooks repeated and unknown fields."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or not 2 <= size <= min(len(data) - 8, MAX_HEADER_BYTES):
        raise CorruptPatch(f"the patch file is truncated: {len(data)} bytes")
    try:
        header = json.loads(data[8 : 8 + size], object_pairs_hook=_unique)
        if set(header["__metadata__"]) != {"mledit"}:
            raise ValueError("unknown metadata")
        if any(
            set(header[n]) != {"dtype", "shape", "data_offsets"}
            for n in header.keys() - {"__metadata__"}
        ):
            raise ValueError("unknown tensor fields")
        text = header["__metadata__"]["mledit"]
        metadata = json.loads(text, object_pairs_hook=_unique)
        if set(metadata) != {"format", "kind", "header", "digest"}:
            raise ValueError("unknown fields")
        if canonical_json(metadata).decode() != text or not isinstance(metadata["header"], dict):
            raise ValueError("not in canonical form")
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        InvalidInputError,
    ) as error:
        raise CorruptPatch(f"the patch's header is malformed: {error}") from error
    return dict(metadata)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field occurs twice")
    return fields
