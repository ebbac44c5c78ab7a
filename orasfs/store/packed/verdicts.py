"""The judgement whether a layer may be shown below a title, and its memory.

A verdict depends on nothing but the layer and how it is shown, so it stands as long as it is
remembered.
"""

import copy
from collections.abc import Hashable

from cachetools import LRUCache

from orasfs.errors import ContentMismatch, InvalidContent, OrasfsError
from orasfs.store.packed.openlayer import OpenLayer
from orasfs.tree.node import PackedLayer
from orasfs.tree.packed import check_packed

_REMEMBERED = 4096
_QUICK_MEMBERS = 5000


class Verdicts:
    """What is wrong with layers as they are shown, None where nothing is."""

    def __init__(self) -> None:
        self._found: LRUCache[Hashable, OrasfsError | None] = LRUCache(_REMEMBERED)

    def __repr__(self) -> str:
        return f"<Verdicts {len(self._found)}>"

    def is_known(self, layer: PackedLayer) -> bool:
        """Tell whether the layer was judged."""
        return key_of(layer) in self._found

    def is_good(self, layer: PackedLayer, opened: OpenLayer) -> bool:
        """Tell whether the layer was judged good, or can be in no time worth a thread."""
        key = key_of(layer)
        try:
            return self._found[key] is None  # asked at each open of a file
        except KeyError:
            if not _is_quick(layer, opened):
                return False
        self._found[key] = error = judge(layer, opened)
        return error is None

    def note(self, layer: PackedLayer, error: OrasfsError | None) -> None:
        """Remember what is wrong with a layer."""
        self._found[key_of(layer)] = error

    def check(self, layer: PackedLayer) -> None:
        """Raise what is wrong with a layer, if that is known and anything is.

        Raises:
            OrasfsError: it is not to be shown.
        """
        error = self._found.get(key_of(layer))
        if error is not None:
            raise copy.copy(error) from error


def key_of(layer: PackedLayer) -> Hashable:
    """Return all that a verdict depends on."""
    descriptor = layer.descriptor
    return (
        descriptor.digest,
        descriptor.size,
        layer.root,
        layer.content_digest,
        layer.has_whiteouts,
    )


def _is_quick(layer: PackedLayer, opened: OpenLayer) -> bool:
    """Tell whether to judge the layer takes no time worth a thread."""
    content = layer.content_digest
    is_known = content is None or content.algorithm in opened.tar_digests
    return is_known and (layer.has_whiteouts or len(opened.index) <= _QUICK_MEMBERS)


def judge(layer: PackedLayer, opened: OpenLayer) -> OrasfsError | None:
    """Return what is wrong with showing the layer so, None if nothing.

    The members of an image layer are merged by name, so none of them can leave the directory.
    """
    try:
        _check_content(layer, opened)
        if not layer.has_whiteouts:
            check_packed(opened.index, layer.root)
    except (ContentMismatch, InvalidContent) as error:
        return error
    return None


def _check_content(layer: PackedLayer, opened: OpenLayer) -> None:
    wanted = layer.content_digest
    actual = None if wanted is None else opened.tar_digests.get(wanted.algorithm)
    if actual != wanted:
        raise ContentMismatch(
            f"layer {layer.descriptor.digest}: its uncompressed tar is {actual}, "
            f"its content digest annotation says {wanted}"
        )
