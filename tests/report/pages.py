"""How the tests read a page: what it shows, and everything that it would load."""

import re
from html.parser import HTMLParser

from lure.report.page import write_page

EVIL = "<img src=x onerror=alert(1)>"


class Reader(HTMLParser):
    """Collects what a page shows, and everything that it would load."""

    def __init__(self):
        super().__init__()
        self.words, self.loads, self.open, self.hidden = [], [], [], False
        self.links, self.anchors = set(), set()

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        named = [values[key] for key in ("src", "href", "srcset") if key in values]
        self.links |= {name[1:] for name in named if name.startswith("#")}  # a place on this page
        self.loads += [name for name in named if not name.startswith("#")]
        self.anchors |= {values["id"]} if "id" in values else set()
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)


def read_page(runs, file):
    write_page(runs, file)
    reader = Reader()
    reader.feed(file.read_text(encoding="utf-8"))
    assert reader.open == []
    assert reader.links <= reader.anchors
    return re.sub(r"\s+", " ", " ".join(reader.words)), reader.loads
