"""The built site: no warning, no broken link within it, and nothing too wide for a phone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytestmark = pytest.mark.full
DOCS = Path(__file__).parents[2] / "docs"
WIDTHS = (390, 1200)
# Pages in frames of a width, and how much wider than that each is
MEASURE = """<body><script>
async function measure() {
  const found = {};
  for (const name of %s) for (const width of %s) {
    const frame = document.createElement("iframe");
    frame.width = width; frame.height = 900; frame.src = name;
    await new Promise(done => { frame.onload = done; document.body.append(frame); });
    const root = frame.contentDocument.documentElement;
    found[name + " " + width] = [root.scrollWidth, root.clientWidth];
    frame.remove();
  }
  const out = document.createElement("pre");
  out.id = "found"; out.textContent = JSON.stringify(found); document.body.append(out);
}
measure();
</script></body>"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("furo", reason="the site's packages are not installed")
    copy = tmp_path_factory.mktemp("site")
    shutil.copytree(DOCS, copy / "docs", ignore=shutil.ignore_patterns("_made", "generated"))
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going"]
    done = subprocess.run(
        [*command, copy / "docs", copy / "html"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return copy / "html"


class Links(HTMLParser):
    """What a page links to or shows, and the places in it."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.places: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.places |= {value for name in ("id", "name") if (value := found.get(name))}
        self.links |= {value for name in ("href", "src") if (value := found.get(name))}


def broken(pages: dict[Path, Links]) -> list[str]:
    """List the links that lead to no file, or to no place on its page."""
    found = []
    for page, links in pages.items():
        for link in links.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            known = pages.get(target)
            place = unquote(parts.fragment)
            if not target.exists() or (known and place and place not in known.places):
                found.append(f"{page.name}: {link}")
    return found


def test_no_broken_link(site: Path) -> None:
    pages = {
        page.resolve(): Links(page) for page in site.rglob("*.html") if "_static" not in page.parts
    }
    assert len(pages) > 70
    assert broken(pages) == []


def test_a_broken_link_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        '<a id="here" href="#here"></a><a href="#there"></a><img src="no.png">', "utf-8"
    )
    assert sorted(broken({page: Links(page)})) == ["page.html: #there", "page.html: no.png"]


def test_formulas_need_no_network(site: Path) -> None:
    """MathJax is a file of the site."""
    text = (site / "textbook" / "gradient.html").read_text(encoding="utf-8")
    (script,) = re.findall(r'src="([^"]*mathjax[^"]*\.js[^"]*)"', text)
    assert (site / "textbook" / urlsplit(script).path).resolve().is_file()


def measured(site: Path) -> dict[str, list[int]]:
    """Ask a browser how wide each page is in frames of both widths."""
    found = (shutil.which(x) for x in ("chromium", "chromium-browser", "google-chrome"))
    browser = next((path for path in found if path), None)
    if browser is None:
        pytest.skip("no Chromium is installed")
    names = sorted(
        str(page.relative_to(site)) for page in site.rglob("*.html") if "_static" not in page.parts
    )
    names = [
        name for name in names if name not in ("heat-map.html", "genindex.html", "search.html")
    ]
    frames = site / "frames.html"
    frames.write_text(MEASURE % (json.dumps(names), json.dumps(WIDTHS)), encoding="utf-8")
    quiet = (
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--allow-file-access-from-files", "--virtual-time-budget=600000", "--dump-dom",
    )  # fmt: skip
    done = subprocess.run(
        [browser, *quiet, f"--user-data-dir={site.parent / 'profile'}", frames.as_uri()],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    frames.unlink()
    shown = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert shown, done.stderr[-2000:]
    return json.loads(shown[1])


def test_nothing_is_wider_than_the_screen(site: Path) -> None:
    widths = measured(site)
    assert len(widths) > 140
    assert {page: width for page, width in widths.items() if width[0] > width[1]} == {}


def test_a_page_too_wide_is_seen(tmp_path: Path) -> None:
    site = tmp_path / "html"
    site.mkdir()
    (site / "wide.html").write_text("<div style='width: 800px'>wide</div>", encoding="utf-8")
    found = measured(site)
    assert found["wide.html 390"][0] > 390
    assert found["wide.html 1200"][0] <= 1200
