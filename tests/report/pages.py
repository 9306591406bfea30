"""What a page shows, read as a browser would: for the tests of the report."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """Collects a page's tags, its texts and its tables."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.texts, self.open, self.style = [], [], [], []
        self.tables = {}  # by name, rows of cells
        self._rows = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        self.open.append(tag)
        if tag == "table":
            self._rows = self.tables[attributes.get("data-name", f"unnamed {len(self.tables)}")] = []
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("th", "td"):
            self._rows[-1].append("")

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        hidden = {"script", "style"} & set(self.open)
        (self.style if hidden else self.texts).append(data)
        if {"th", "td"} & set(self.open):
            # a note stands on a line of its own
            self._rows[-1][-1] += f" {data}" if self._rows[-1][-1] else data

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())
