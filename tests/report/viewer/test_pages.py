"""The pages as a browser gets them: what they hold, what they escape, whom they answer."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from viewer_world import HOSTILE, client_of, entry, headline, side_of, some

from autointerp.report.tokens import legible
from autointerp.report.viewer import guard

LARGEST_PAGE = 200_000  # bytes


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    return client_of([side_of(tmp_path_factory.mktemp("run"), some(300))])


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    """Every text of the run tries to be something else."""
    listed = [
        entry(HOSTILE.splitlines()[0][:60], 0, HOSTILE, effect=HOSTILE, reason=HOSTILE),
        entry("z", 1, "", status="failed", reason=HOSTILE),
        entry("z", 2, "word " * 20_000),
    ]
    return client_of([side_of(tmp_path_factory.mktemp("run"), listed)])


def text_of(page: str) -> str:
    """What a page shows, without its tags."""
    return unescape(re.sub(r"<[^>]*>", "", page))


def addresses(page: str) -> list[str]:
    return [unescape(found) for found in re.findall(r'href="([^"]*)"', page)]


def test_the_first_page_is_small_and_leads_to_latents_and_on(client: TestClient) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert len(page.content) < LARGEST_PAGE
    assert "300 latents" in text_of(page.text)
    assert len(set(re.findall(r"/latent\?id=[^\"]*", page.text))) == 50
    following = next(address for address in addresses(page.text) if "after=" in address)
    other = client.get(f"/{following}")
    assert "previous" in other.text
    assert not set(re.findall(r"/latent\?id=[^\"]*", page.text)) & set(
        re.findall(r"/latent\?id=[^\"]*", other.text)
    )


def test_every_link_of_every_page_leads_somewhere(client: TestClient) -> None:
    seen, left = {"/"}, ["/"]
    while left:
        page = client.get(left.pop())
        assert page.status_code == 200, page.url
        for address in addresses(page.text):
            address = f"/{address}" if address.startswith("?") else address.partition("#")[0]
            if address and address not in seen and len(seen) < 60:
                seen.add(address)
                left.append(address)
    assert {"/live", "/about", "/static/viewer.css", "/static/style.css"} <= seen


@pytest.mark.parametrize(
    "address", ["/", "/?q=script", "/latent?id=z/1", "/latent?id=z/2", "/?status=failed", "LATENT"]
)
def test_hostile_texts_come_through_unharmed(hostile: TestClient, address: str) -> None:
    if address == "LATENT":
        address = next(a for a in addresses(hostile.get("/?q=script").text) if "latent?" in a)
    page = hostile.get(address)
    assert page.status_code == 200
    assert "<script>alert" not in page.text
    assert page.text.count("</title>") == 1
    assert "\x00" not in page.text
    assert "\x1b" not in page.text
    if "z/2" in address:
        assert legible("word " * 20_000) in text_of(page.text)
    else:
        assert len(page.content) < LARGEST_PAGE
        assert "<script>alert(1)</script> & \"quotes\" 'single'" in text_of(page.text)
        assert "שלום" in text_of(page.text)
        assert "\U0001f600" in text_of(page.text)
    if "latent?" in address and "z/" not in address:
        assert legible(HOSTILE).splitlines()[1] in text_of(page.text)


def test_no_page_has_scripts_styles_or_handlers_of_its_own(hostile: TestClient) -> None:
    latent = next(a for a in addresses(hostile.get("/?q=script").text) if "latent?" in a)
    for address in ("/", latent, "/live", "/about", "/nowhere"):
        page = hostile.get(address)
        policy = page.headers["content-security-policy"]
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert page.headers["x-content-type-options"] == "nosniff"
        tags = re.findall(r"<[^>]*>", page.text)
        assert not [tag for tag in tags if re.search(r"\s(style|on\w+)=", tag)]
        assert not [tag for tag in tags if tag.startswith("<script") and "src=" not in tag]
        assert not re.findall(r"(?:src|href|action)=\"(?:https?:)?//", page.text)


@pytest.mark.parametrize(
    ("address", "status", "told"),
    [
        ("/nowhere", 404, "no page at /nowhere"),
        ("/latent?id=c0/99999", 404, "c0/99999 is not among the latents"),
        ("/latent?id=", 400, "write CODER/INDEX"),
        ("/?sort=length", 400, "sort = 'length' is not among"),
        ("/?coder=<b>", 400, "coder = '<b>' is not among"),
        ("/compare", 404, "no page"),
        ("/static/../app.py", 404, ""),
        ("/static/%2e%2e/app.py", 404, ""),
    ],
)
def test_what_cannot_be_is_told_on_a_page(
    client: TestClient, address: str, status: int, told: str
) -> None:
    page = client.get(address)
    assert page.status_code == status
    assert told in text_of(page.text)
    assert "<b>" not in page.text


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8000", 200),
        ("127.0.0.1", 200),
        ("[::1]:8000", 200),
        ("LOCALHOST", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("192.168.0.7", 421),
        ("", 421),
    ],
)
def test_only_its_own_names_are_answered(client: TestClient, host: str, status: int) -> None:
    assert client.get("/", headers={"host": host}).status_code == status
    assert client.get("/static/viewer.js", headers={"host": host}).status_code == status


def test_beyond_loopback_addresses_and_given_names_are_answered() -> None:
    hosts = guard.hosts_of("0.0.0.0", ["lab.example"])
    wide = guard.Guard(None, hosts, addresses=True)  # type: ignore[arg-type]
    assert wide._is_ours("lab.example")
    assert wide._is_ours("10.0.0.3")
    assert not wide._is_ours("evil.example")
    assert not guard.is_loopback("0.0.0.0")
    assert guard.is_loopback("::1")


def test_forms_of_other_pages_are_not_taken(client: TestClient) -> None:
    form = {"text": "a"}
    assert client.post("/live", data=form, headers={"origin": "http://evil"}).status_code == 403
    answer = client.post("/live", data=form, headers={"origin": "http://localhost:8000"})
    assert (answer.status_code, "no subject reads" in answer.text) == (400, True)


def test_a_latents_page_has_scores_probes_and_neighbours(client: TestClient) -> None:
    address = next(a for a in addresses(client.get("/?q=alpha").text) if "latent?" in a)
    shown = text_of(client.get(address).text)
    for told in ("0.700", "0.600 to 0.800", "shuffled 0.50", "h1 said off (wrong)", "confirmed"):
        assert told in shown
    near = text_of(client.get(f"{address}&neighbours=decoder").text)
    assert "no coder is here" in near


def test_two_runs_side_by_side(tmp_path: Path) -> None:
    def run(name: str, scores: list[float | None], root: str = "") -> object:
        listed = [
            entry("c0", i, f"{name} {i}", headlines={} if s is None else {"detection": headline(s)})
            for i, s in enumerate(scores)
        ]
        return side_of(tmp_path / name, listed, root)

    first = run("one", [0.5, 0.9, None, 0.4])
    second = run("two", [0.75, 0.6, 0.9], "/b")
    client = client_of([first, second], paired=False)  # type: ignore[list-item]
    page = text_of(client.get("/compare").text)
    assert "3 latents in common, 2 of them with detection in both" in page
    assert "not the same latents" in page
    assert page.index("c0/0") < page.index("c0/1") < page.index("c0/2")
    assert "+0.250" in page
    assert "-0.300" in page
    losses = text_of(client.get("/compare?first=a").text)
    assert losses.index("c0/1") < losses.index("c0/0")
    assert "c0/2" not in losses
    pair = text_of(client.get("/compare/latent?id=c0/1").text)
    assert "one 1" in pair
    assert "two 1" in pair
    assert client.get("/compare/latent?id=c0/3").status_code == 404
    assert "two 2" in client.get("/b/latent?id=c0/2").text
    assert "two 0" in text_of(client.get("/b").text)


def test_where_a_text_comes_from_is_told_with_it(tmp_path: Path) -> None:
    why = "the text is the pattern explainer's"
    sides = [
        side_of(tmp_path / name, [entry("c0", 0, reason=reason)], root)
        for name, reason, root in (("one", why, ""), ("two", None, "/b"))
    ]
    client = client_of(sides)
    assert why in text_of(client.get("/latent?id=c0/0").text)
    assert why not in text_of(client.get("/b/latent?id=c0/0").text)
    assert text_of(client.get("/compare/latent?id=c0/0").text).count(why) == 1


def test_the_configuration_is_shown_without_secrets(tmp_path: Path) -> None:
    secret = "hunter2"
    (tmp_path / "config.yaml").write_text(
        f"llms:\n  judge: {{model: m, base_url: 'https://me:{secret}@api.example/v1?key={secret}',"
        f" api_key_env: {secret}, extra_body: {{token: {secret}}},"
        f" serve: {{args: [--api-key, {secret}]}}}}\nrun: {{name: <b>}}\n"
    )
    client = client_of([side_of(tmp_path, [entry("c0", 0)])])
    page = client.get("/about")
    assert page.status_code == 200
    assert secret not in page.text
    assert "https://api.example/v1" in page.text
    assert "<b>" not in page.text
