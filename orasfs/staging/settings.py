"""How a draft is to be packed, as its owner said: attributes, annotation file and config.

Owns the names and values of the settings (docs/SEMANTICS.md, "From draft to manifest"), and what
they mean for `orasfs.staging.pack`. Pure.

Where an attribute and `.oras/annotations.json` say two things, the attribute, which is nearer to
the file, is heeded.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from orasfs.errors import InvalidInput
from orasfs.oci import mediatype
from orasfs.oci.descriptor import ANNOTATION_CREATED, ANNOTATION_TITLE
from orasfs.oci.manifest import Manifest
from orasfs.staging.layerblob import Compression
from orasfs.staging.manifest import (
    ImageSpec,
    ManifestFields,
    check_created,
    config_descriptor,
)
from orasfs.staging.manifestedit import ManifestChanges
from orasfs.staging.pack import Packing, PackSettings

PREFIX = "user.oras."
MEDIA_TYPE = f"{PREFIX}mediatype"
ANNOTATION = f"{PREFIX}annotation."
ARTIFACT_TYPE = f"{PREFIX}artifacttype"
CONFIG_MEDIA_TYPE = f"{PREFIX}config.mediatype"
ORDER = f"{PREFIX}order"
EPOCH = f"{PREFIX}epoch"
PACK = f"{PREFIX}pack"
COMPRESSION = f"{PREFIX}compression"
LINKS = f"{PREFIX}links"
FORCE = f"{PREFIX}force"
REFERRERS = f"{PREFIX}referrers"
IMAGE_SPEC = f"{PREFIX}imagespec"

MANIFEST_KEY = "$manifest"
CONFIG_KEY = "$config"
_MAX_EPOCH = 253_402_300_799  # the last second that RFC 3339 can write
_NUMBER = re.compile(r"[0-9]{1,12}", re.ASCII)

Attributes = Mapping[str, str]
_NOTHING: Mapping[str, Attributes] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Said:
    """Everything that was said about one draft.

    Attributes:
        top: the attributes of the top directory.
        entries: those of what is in it, by path.
        annotations: the bytes of `.oras/annotations.json`, None if there is none.
        config: the bytes of `.oras/config`, None if there is none.
    """

    top: Attributes
    entries: Mapping[str, Attributes] = field(default_factory=lambda: _NOTHING)
    annotations: bytes | None = None
    config: bytes | None = None


def _media_type(name: str, value: str) -> None:
    if not mediatype.is_valid(value):
        raise InvalidInput(f"{name}: {value[:300]!r} is no media type such as text/plain")


def _choice(*choices: str) -> Callable[[str, str], None]:
    def check(name: str, value: str) -> None:
        if value not in choices:
            raise InvalidInput(f"{name}: {value[:80]!r}, expected {' or '.join(choices)}")

    return check


def _epoch(name: str, value: str) -> None:
    if not _NUMBER.fullmatch(value) or int(value) > _MAX_EPOCH:
        raise InvalidInput(f"{name}: {value[:80]!r}, expected seconds since the epoch")


def _order(name: str, value: str) -> None:
    titles = _titles(value)
    if len(set(titles)) != len(titles):
        raise InvalidInput(f"{name}: a title is in it twice")


_pack = _choice("tar", "files")
_CHECKS: Mapping[str, Callable[[str, str], None]] = {
    MEDIA_TYPE: _media_type,
    ARTIFACT_TYPE: _media_type,
    CONFIG_MEDIA_TYPE: _media_type,
    ORDER: _order,
    EPOCH: _epoch,
    PACK: _pack,
    COMPRESSION: _choice(*(each.value for each in Compression)),
    LINKS: _choice("any", "inside"),
    FORCE: _choice("0", "1"),
    REFERRERS: _choice("0", "1"),
    IMAGE_SPEC: _choice(*(each.value for each in ImageSpec)),
}
_OF_ENTRIES = frozenset({MEDIA_TYPE, PACK})


def check_setting(name: str, value: bytes, *, is_top: bool) -> None:
    """Check an attribute `user.oras.…` before it is stored.

    Raises:
        InvalidInput: there is no such setting here, or the value is not one of its values.
    """
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{name}: the value is not UTF-8") from error
    if name.startswith(ANNOTATION):
        _check_annotation(name.removeprefix(ANNOTATION), text, is_top=is_top)
        return
    check = _CHECKS.get(name)
    if check is None:
        raise InvalidInput(f"{name}: no such setting; known are {', '.join(sorted(_CHECKS))}")
    if not is_top and name not in _OF_ENTRIES:
        raise InvalidInput(f"{name}: a setting of the draft's top directory only")
    check(name, text)


def _check_annotation(key: str, value: str, *, is_top: bool) -> None:
    if not key:
        raise InvalidInput("an annotation needs a key")
    if is_top and key == ANNOTATION_CREATED:
        check_created({key: value})


def pack_settings(
    said: Said, defaults: PackSettings | None = None, base: Manifest | None = None
) -> PackSettings:
    """Return how the draft is packed.

    Args:
        said: about the draft.
        defaults: of the mount.
        base: the manifest that is edited, if one is.

    Raises:
        InvalidInput: the annotation file is malformed.
    """
    given = parse_annotations(said.annotations)
    top = said.top
    settings = replace(
        defaults or PackSettings(),
        packing_of={path: Packing(of[PACK]) for path, of in said.entries.items() if PACK in of},
        media_types={
            path: of[MEDIA_TYPE] for path, of in said.entries.items() if MEDIA_TYPE in of
        },
        layer_annotations=_layer_annotations(said, given),
    )
    if ORDER in top:
        settings = replace(settings, order=_titles(top[ORDER]))
    if PACK in top:
        settings = replace(settings, packing=Packing(top[PACK]))
    if COMPRESSION in top:
        settings = replace(settings, compression=Compression(top[COMPRESSION]))
    if LINKS in top:
        settings = replace(settings, allow_links=top[LINKS] == "any")
    if EPOCH in top:
        settings = replace(settings, epoch_seconds=int(top[EPOCH]))
    if base is not None:
        if IMAGE_SPEC in top:
            raise InvalidInput(f"{IMAGE_SPEC}: what has a base keeps the base's form")
        return replace(settings, changes=_changes(said, given, base))
    return replace(settings, fields=_fields(said, given))


def _fields(said: Said, given: Mapping[str, Attributes]) -> ManifestFields:
    config = None
    if said.config is not None:
        config = config_descriptor(said.config, said.top.get(CONFIG_MEDIA_TYPE, ""))
    elif CONFIG_MEDIA_TYPE in said.top:
        config = config_descriptor(media_type=said.top[CONFIG_MEDIA_TYPE])
    return ManifestFields(
        artifact_type=said.top.get(ARTIFACT_TYPE, ""),
        config=config,
        config_annotations=given.get(CONFIG_KEY, {}),
        annotations={**given.get(MANIFEST_KEY, {}), **_annotations(said.top)},
        image_spec=ImageSpec(said.top[IMAGE_SPEC]) if IMAGE_SPEC in said.top else None,
    )


def _changes(said: Said, given: Mapping[str, Attributes], base: Manifest) -> ManifestChanges:
    """Return what is to be another than in the base; what is not mentioned stays."""
    config = None
    old = base.config
    if said.config is not None or CONFIG_MEDIA_TYPE in said.top or CONFIG_KEY in given:
        media_type = said.top.get(CONFIG_MEDIA_TYPE, old.media_type if old else "")
        if said.config is not None or old is None:
            config = config_descriptor(said.config or b"{}", media_type)
        else:
            config = replace(old, media_type=media_type)
        annotations = given.get(CONFIG_KEY, old.annotations if old else {})
        config = replace(config, annotations=annotations)
    annotations = {
        **given.get(MANIFEST_KEY, base.annotations),
        **_annotations(said.top),
    }
    return ManifestChanges(
        artifact_type=said.top.get(ARTIFACT_TYPE),
        config=config,
        annotations=None if annotations == dict(base.annotations) else annotations,
    )


def _layer_annotations(said: Said, given: Mapping[str, Attributes]) -> Mapping[str, Attributes]:
    found = {title: of for title, of in given.items() if title not in {MANIFEST_KEY, CONFIG_KEY}}
    for path, of in said.entries.items():
        annotations = _annotations(of)
        if annotations:
            found[path] = {**found.get(path, {}), **annotations}
    return found


def _annotations(attributes: Attributes) -> Attributes:
    found = {
        name.removeprefix(ANNOTATION): value
        for name, value in attributes.items()
        if name.startswith(ANNOTATION)
    }
    found.pop(ANNOTATION_TITLE, None)  # a copy may carry it; here the name is the title
    return found


def parse_annotations(raw: bytes | None) -> Mapping[str, Attributes]:
    """Parse an annotation file of the reference client: `$manifest`, `$config`, titles.

    Raises:
        InvalidInput: it is not JSON, or not of that form.
    """
    if raw is None or not raw.strip():
        return {}
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f".oras/annotations.json: not JSON: {error}") from error
    is_valid = isinstance(document, dict) and all(
        isinstance(of, dict) and all(isinstance(value, str) for value in of.values())
        for of in document.values()
    )
    if not is_valid:
        raise InvalidInput(
            ".oras/annotations.json: expected an object of objects of strings, as in "
            '{"$manifest": {"key": "value"}, "file.txt": {"key": "value"}}'
        )
    return {str(name): dict(of) for name, of in document.items()}


def _titles(text: str) -> tuple[str, ...]:
    return tuple(title for title in text.split(",") if title)
