import pytest
from hypothesis import given
from hypothesis import strategies as st

from orasfs.errors import InvalidInput, RegistryFailure
from orasfs.registry import route

PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    "name", ["localhost", "LOCALHOST", "x.localhost", "127.0.0.1", "127.1.2.3", "::1", "[::1]"]
)
def test_loopback_names(name: str) -> None:
    assert route.is_loopback(name)


@pytest.mark.parametrize("name", ["localhost.example.com", "128.0.0.1", "::2", "example", "127"])
def test_other_names(name: str) -> None:
    assert not route.is_loopback(name)


def test_origin_has_the_default_port() -> None:
    assert route.origin("https://Example.com/x") == route.origin("https://example.com:443/y")
    assert route.origin("http://example.com") != route.origin("https://example.com")


@pytest.mark.parametrize("url", ["ftp://x/", "/v2/", "http:///x", "http://x:99999/", "http://[x/"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(RegistryFailure):
        route.origin(url)


def test_only_tls_and_this_machine_are_trusted() -> None:
    assert route.is_trusted("https://example.com/")
    assert route.is_trusted("http://127.0.0.1:5000/")
    assert not route.is_trusted("http://example.com/")


def test_signatures_and_passwords_are_not_logged() -> None:
    url = "https://user:secret@example.com/a/b?X-Amz-Signature=secret"
    assert route.without_query(url) == "https://example.com/a/b"


def test_redirects_are_resolved_and_counted() -> None:
    assert route.redirect_target("http://a/v2/x", "/y?z=1#f", 0) == "http://a/y?z=1"
    assert route.redirect_target("http://a/v2/x", "https://b/y", 4) == "https://b/y"
    with pytest.raises(RegistryFailure, match="more than 5"):
        route.redirect_target("http://a/", "http://a/", 5)


@pytest.mark.parametrize("location", ["", "file:///etc/passwd", "gopher://x", "http://["])
def test_redirects_to_elsewhere_are_refused(location: str) -> None:
    with pytest.raises(RegistryFailure):
        route.redirect_target("http://a/", location, 0)


@given(st.text())
def test_any_location_is_an_address_or_refused(location: str) -> None:
    try:
        target = route.redirect_target("https://a/v2/", location, 0)
    except RegistryFailure:
        return
    assert target.startswith(("http://", "https://"))


def test_credentials_stay_with_their_origin() -> None:
    headers = {"Authorization": "Bearer x", "User-Agent": "y", "cookie": "z"}
    assert route.headers_for_hop(headers, "https://a/x", "https://a:443/y") == headers
    for target in ("https://b/", "http://a/", "https://a:8443/"):
        assert route.headers_for_hop(headers, "https://a/x", target) == {"User-Agent": "y"}


def test_proxies_of_the_environment_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setenv("ALL_PROXY", "other:3128")
    monkeypatch.setenv("no_proxy", "internal.example")
    assert route.proxy_for("http://example.com/") == "http://proxy:3128"
    assert route.proxy_for("https://example.com/") == "http://other:3128"
    assert route.proxy_for("http://internal.example:5000/") is None


def test_loopback_never_goes_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXY_VARIABLES[:3]:
        monkeypatch.setenv(name, "http://proxy:3128")
    for host in ("localhost:5000", "127.0.0.1", "[::1]:5000"):
        assert route.proxy_for(f"http://{host}/v2/") is None


def test_unusable_proxy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """SOCKS takes two more libraries, neither of which has been looked after for years."""
    monkeypatch.setenv("https_proxy", "socks5://user:secret@proxy:1080")
    with pytest.raises(InvalidInput, match="https_proxy: a proxy by socks5://") as caught:
        route.proxy_for("https://example.com/")
    assert "secret" not in str(caught.value)
    monkeypatch.delenv("https_proxy")
    monkeypatch.setenv("ALL_PROXY", "socks5h://proxy:1080")
    with pytest.raises(InvalidInput, match="all_proxy"):
        route.proxy_for("https://example.com/")
    monkeypatch.setenv("NO_PROXY", "example.com")
    assert route.proxy_for("https://example.com/") is None


@pytest.mark.parametrize(
    ("no_proxy", "url", "is_used"),
    [
        ("example.com", "https://example.com/", False),
        ("example.com", "https://sub.example.com:5000/", False),
        (".example.com", "https://sub.example.com/", False),
        ("example.com:5000", "https://example.com:5000/", False),
        ("example.com:5000", "https://example.com/", True),
        ("ample.com", "https://example.com/", True),
        ("a.example, 10.0.0.0/8", "https://10.1.2.3:5000/", False),
        ("10.0.0.0/8", "https://11.1.2.3/", True),
        ("fd00::/8", "https://[fd00::1]/", False),
        ("10.1.2.3", "https://10.1.2.3:5000/", False),
        ("10.0.0.0/8", "https://ten.example/", True),
        ("10.0.0.0/99,,x/y", "https://10.1.2.3/", True),
        ("*", "https://example.com/", False),
    ],
)
def test_no_proxy_names_hosts_domains_and_networks(
    monkeypatch: pytest.MonkeyPatch,
    no_proxy: str,
    url: str,
    is_used: bool,  # noqa: FBT001 - a parameter
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert (route.proxy_for(url) is not None) is is_used
