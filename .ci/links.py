"""Checks that every relative link of the built book leads somewhere: the file exists, and so does the anchor."""

import html.parser
import pathlib
import sys
import urllib.parse


class Page(html.parser.HTMLParser):
    """Links and anchors of one page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            elif name in ("href", "src") and value and tag != "base":
                self.links.append((self.getpos()[0], value))


def main(root):
    pages = {path: Page(path) for path in sorted(root.rglob("*.html"))}
    if not pages:
        sys.exit(f"{root}: no pages: was the book built?")
    broken, checked = [], 0
    for path, page in pages.items():
        # 404.html is served from any depth, its links start at the root of the book.
        for line, link in page.links:
            url = urllib.parse.urlsplit(link)
            if url.scheme or url.netloc:
                continue
            checked += 1
            name = urllib.parse.unquote(url.path)
            base = root if name.startswith("/") or path.name == "404.html" else path.parent
            target = (base / name.lstrip("/")).resolve() if name else path.resolve()
            if target.is_dir():
                target = target / "index.html"
            if not target.exists():
                broken.append(f"{path}:{line}: {link}: no such file")
                continue
            fragment = urllib.parse.unquote(url.fragment)
            known = next((other for other in pages if other.resolve() == target), None)
            if fragment and known and fragment not in pages[known].anchors:
                broken.append(f"{path}:{line}: {link}: no such anchor")
    print(f"{len(pages)} pages, {checked} relative links, {len(broken)} broken")
    if broken:
        sys.exit("\n".join(broken))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "book/book"))
