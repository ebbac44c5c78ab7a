"""Digests, and the check of bytes against them.

Source: image-spec v1.1 descriptor.md, section Digests. Registered algorithms: sha256 and sha512.
"""

import hashlib
import re
import sys
from dataclasses import dataclass

from orasfs.errors import ContentMismatch, InvalidName

_HEX_LENGTHS = {"sha256": 64, "sha512": 128}
ALGORITHMS = frozenset(_HEX_LENGTHS)
_HEX = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """A digest of a registered algorithm: `algorithm` and lower-case `hex`."""

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: str) -> "Digest":
        """Parse `algorithm:hex`.

        Raises:
            InvalidName: the algorithm is not registered, or the hex is not of its length.
        """
        algorithm, colon, hexadecimal = text.partition(":")
        length = _HEX_LENGTHS.get(algorithm)
        if not colon or length is None:
            msg = f"digest {text[:160]!r}: expected sha256:HEX or sha512:HEX"
            raise InvalidName(msg)
        if len(hexadecimal) != length or not _HEX.fullmatch(hexadecimal):
            msg = f"digest {text[:160]!r}: expected {length} lower-case hexadecimal digits"
            raise InvalidName(msg)
        return cls(sys.intern(algorithm), hexadecimal)

    @classmethod
    def of(cls, content: bytes, algorithm: str = "sha256") -> "Digest":
        """Compute the digest of `content`."""
        return cls(algorithm, hashlib.new(algorithm, content).hexdigest())

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


class Verifier:
    """Checks a stream of bytes against a digest and a size in bytes, while it passes."""

    def __init__(self, digest: Digest, size: int) -> None:
        self._digest = digest
        self._size = size
        self._seen = 0
        self._hash = hashlib.new(digest.algorithm)

    def update(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next bytes.

        Raises:
            ContentMismatch: there are more of them than the size says.
        """
        self._seen += len(chunk)
        if self._seen > self._size:
            msg = f"{self._digest}: more than the {self._size} bytes its descriptor says"
            raise ContentMismatch(msg)
        self._hash.update(chunk)

    def finish(self) -> None:
        """Check what has passed.

        Raises:
            ContentMismatch: bytes are missing, or the digest is another.
        """
        if self._seen != self._size:
            msg = (
                f"{self._digest}: {self._seen} bytes instead of the {self._size} of its descriptor"
            )
            raise ContentMismatch(msg)
        actual = self._hash.hexdigest()
        if actual != self._digest.hex:
            msg = f"{self._digest}: the content's digest is {self._digest.algorithm}:{actual}"
            raise ContentMismatch(msg)


def verify(content: bytes, digest: Digest, size: int) -> None:
    """Check `content` whole.

    Raises:
        ContentMismatch: its size or digest is another.
    """
    verifier = Verifier(digest, size)
    verifier.update(content)
    verifier.finish()
