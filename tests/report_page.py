"""A report's page as tests read it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser


class Page(HTMLParser):
    """What the tests read of a page: links, text, tables, the data for scripts."""

    def __init__(self, text: str):
        super().__init__()
        self.html = text
        self.links, self.words, self.tables, self._into = [], [], [], None
        self.feed(text)
        self.data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.links += [found[name] for name in ("src", "href", "srcset", "poster", "action") if name in found]
        self._into = tag
        if tag == "table":
            self.tables.append([])
        elif tag == "tr" and self.tables:
            self.tables[-1].append([])
        elif tag in ("td", "th") and self.tables:
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        self._into = None if tag in ("script", "style") else self._into
        if tag in ("td", "th"):
            self._into = None

    def handle_data(self, text):
        if self._into in ("script", "style"):
            return
        self.words.append(text)
        if self._into in ("td", "th", "button") and self.tables and self.tables[-1] and self.tables[-1][-1]:
            self.tables[-1][-1][-1] += text.strip()
