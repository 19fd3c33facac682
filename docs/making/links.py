"""Check of a built site: its links, anchors, pictures and scripts exist, and nothing is fetched from elsewhere."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FETCHED = {"img": "src", "script": "src", "source": "src", "iframe": "src", "link": "href"}
TEMPLATES = {"404.html"}  # its links are those of a server's root


class Page(HTMLParser):
    """Names that a page can be linked at, what it links to, and what it fetches."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = {""}
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value is not None}
        self.anchors.update(values[name] for name in ("id", "name") if name in values)
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag in FETCHED and FETCHED[tag] in values and values.get("rel") != "canonical":
            self.fetched.append(values[FETCHED[tag]])


def faults(site: Path) -> list[str]:
    """What is wrong in the HTML pages below `site`, one line each."""
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    found = []
    for path, page in pages.items():
        if path.name in TEMPLATES:
            continue
        found += [f"{path.name} fetches {url} from elsewhere" for url in page.fetched if urlsplit(url).netloc]
        near = [url for url in [*page.links, *page.fetched] if not urlsplit(url).scheme and not urlsplit(url).netloc]
        found += [f"{path.name} links to {url}, which does not exist" for url in near if not _exists(url, path, pages)]
    return found


def _exists(url: str, path: Path, pages: dict[Path, Page]) -> bool:
    parts = urlsplit(url)
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target.is_dir():
        target = target / "index.html"
    if target in pages:
        return unquote(parts.fragment) in pages[target].anchors
    return target.is_file() and not parts.fragment
