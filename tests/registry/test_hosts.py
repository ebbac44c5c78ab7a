"""hosts.toml: what containerd understands, and what an ill-formed one is told."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orasfs.errors import InvalidContent
from orasfs.registry.hosts import ALL, Capability, Hosts, find_file, parse_hosts, read_hosts

HERE = Path("/etc/containerd/certs.d/registry.example")


def parse(text: str) -> Hosts:
    return parse_hosts(text.encode(), HERE)


def test_places_are_asked_in_the_order_of_the_file() -> None:
    hosts = parse("""
        server = "https://registry.example"
        [host."https://b.example"]
          capabilities = ["pull"]
        [host."http://a.example:5000"]
          capabilities = ["pull", "resolve"]
    """)
    assert [place.url for place in hosts.mirrors] == [
        "https://b.example",
        "http://a.example:5000",
    ]
    assert [place.host for place in hosts.mirrors] == ["b.example", "a.example:5000"]
    assert hosts.mirrors[0].capabilities == {Capability.PULL}
    assert hosts.mirrors[1].capabilities == {Capability.PULL, Capability.RESOLVE}
    assert hosts.server is not None
    assert hosts.server.url == "https://registry.example"


def test_an_empty_file_says_nothing() -> None:
    assert parse("") == Hosts()


def test_what_is_not_said_is_the_usual() -> None:
    (place,) = parse('[host."mirror.example"]').mirrors
    assert place.url == "https://mirror.example"
    assert place.capabilities == ALL
    assert (place.root, place.is_insecure, place.connect_seconds) == ("/v2", False, None)
    assert not place.authorities
    assert not place.client
    assert not place.headers


@pytest.mark.parametrize(
    ("address", "override", "root"),
    [
        ("https://m.example", "false", "/v2"),
        ("https://m.example/", "false", "/v2"),
        ("https://m.example/v2", "false", "/v2"),
        ("https://m.example/cache", "false", "/cache/v2"),
        ("https://m.example/v2/proxy", "true", "/v2/proxy"),
        ("https://m.example", "true", ""),
    ],
)
def test_the_path_of_the_interface(address: str, override: str, root: str) -> None:
    (place,) = parse(f'[host."{address}"]\noverride_path = {override}').mirrors
    assert (place.url, place.root) == ("https://m.example", root)


def test_certificates_are_beside_the_file_or_where_they_say() -> None:
    hosts = parse("""
        [host."https://a.example"]
          ca = "ca.crt"
          client = "both.pem"
        [host."https://b.example"]
          ca = ["/one.crt", "two.crt"]
          client = [["c.cert", "c.key"], ["d.pem", ""]]
    """)
    a, b = hosts.mirrors
    assert a.authorities == (HERE / "ca.crt",)
    assert a.client == ((HERE / "both.pem", HERE / "both.pem"),)
    assert b.authorities == (Path("/one.crt"), HERE / "two.crt")
    assert b.client == (
        (HERE / "c.cert", HERE / "c.key"),
        (HERE / "d.pem", HERE / "d.pem"),
    )


def test_headers_and_the_rest_of_an_entry() -> None:
    (place,) = parse("""
        [host."https://a.example"]
          skip_verify = true
          dial_timeout = "1500ms"
          [host."https://a.example".header]
            x-one = "1"
            x-more = ["2", "3"]
    """).mirrors
    assert place.is_insecure
    assert place.connect_seconds == 1.5
    assert place.headers == (("x-one", "1"), ("x-more", "2, 3"))


def test_what_is_said_at_the_top_is_of_the_server() -> None:
    server = parse('server = "https://r.example"\nskip_verify = true\nca = "a.crt"').server
    assert server is not None
    assert server.is_insecure
    assert server.authorities == (HERE / "a.crt",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("server =", "not TOML"),
        ("server = 5", "server: expected an address"),
        ('host = "https://a.example"', "host: expected tables"),
        ('[host]\n"https://a.example" = 1', "host: expected tables"),
        ('[host."ftp://a.example"]', 'host."ftp://a.example": expected https'),
        ('[host."https://"]', "expected https"),
        ('[host."https://a.example:none"]', "not an address"),
        ('[host."https://a.example:0"]', "expected https"),
        ('[host."https://a.example?x=1"]', "only a host, a port and a path"),
        ('[host."https://a.example"]\ncapabilities = "pull"', "capabilities: expected a list"),
        ('[host."https://a.example"]\ncapabilities = ["read"]', "capabilities: expected a list"),
        ('[host."https://a.example"]\ncapabilities = [["pull"]]', "capabilities: expected"),
        ('[host."https://a.example"]\nca = 5', "ca: expected a path"),
        ('[host."https://a.example"]\nca = [""]', "ca: expected a path"),
        ('[host."https://a.example"]\nclient = 5', "client: expected a path"),
        ('[host."https://a.example"]\nclient = [["a"]]', "client: expected a path"),
        ('[host."https://a.example"]\nclient = [["a", 5]]', "client: expected a path"),
        ('[host."https://a.example"]\nskip_verify = "yes"', "skip_verify: expected true or false"),
        ('[host."https://a.example"]\nheader = "x"', "header: expected a table"),
        ('[host."https://a.example"]\nheader = {x = 5}', "header: x: expected a text"),
        ('[host."https://a.example"]\nheader = {x = "a\\nb"}', "header: 'x': not a header"),
        ('[host."https://a.example"]\nheader = {"x y" = "a"}', "header: 'x y': not a header"),
        ('[host."https://a.example"]\ndial_timeout = "soon"', "dial_timeout: expected a duration"),
        ('[host."https://a.example"]\ndial_timeout = "0s"', "dial_timeout: expected a duration"),
        ('[host."https://a.example"]\nproxy = "http://p"', "proxy: not supported"),
    ],
)
def test_an_ill_formed_file_is_told_where(text: str, words: str) -> None:
    with pytest.raises(InvalidContent) as caught:
        parse(text)
    assert words in str(caught.value)


def test_a_password_in_an_address_is_not_repeated() -> None:
    with pytest.raises(InvalidContent) as caught:
        parse('[host."https://user:secret@a.example"]')
    assert "credentials belong into the credential file" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "user" not in str(caught.value)


def test_headers_are_in_no_repr() -> None:
    (place,) = parse('[host."https://a.example"]\nheader = {x = "secret"}').mirrors
    assert "secret" not in repr(place)


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_else(raw: bytes) -> None:
    with contextlib.suppress(InvalidContent):
        parse_hosts(raw, HERE)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)
KEYS = ("capabilities", "ca", "client", "skip_verify", "header", "override_path", "dial_timeout")


@given(st.sampled_from(KEYS), JSON)
def test_no_value_of_a_field_does_anything_else(key: str, value: object) -> None:
    text = json.dumps(value)  # JSON's scalars and lists are TOML's
    with contextlib.suppress(InvalidContent):
        parse(f'[host."https://a.example"]\n{key} = {text}')


# Where the file is


def put(directory: Path, name: str, text: str = "") -> Path:
    path = directory / name / "hosts.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


def test_a_file_of_the_hosts_own_name_comes_before_the_default(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    default = put(one, "_default")
    assert find_file((one, two), "r.example:5000") == default
    plain = put(two, "r.example:5000")
    assert find_file((one, two), "r.example:5000") == plain
    escaped = put(two, "r.example_5000_")
    assert find_file((one, two), "r.example:5000") == escaped
    assert find_file((one, two), "r.example") == default


def test_without_files_there_is_none(tmp_path: Path) -> None:
    assert find_file((tmp_path / "missing",), "r.example") is None


def test_a_message_names_the_file(tmp_path: Path) -> None:
    path = put(tmp_path, "r.example", "server = 5")
    with pytest.raises(InvalidContent, match=f"{path}: server: expected"):
        read_hosts(path)
    with pytest.raises(InvalidContent, match="missing: No such file"):
        read_hosts(tmp_path / "missing")
    path.write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(InvalidContent, match="larger than"):
        read_hosts(path)
