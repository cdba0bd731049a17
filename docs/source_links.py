"""A hook of MkDocs: links from the documentation into the source are for readers of the repository; in the site they are plain text."""

import re

OUTSIDE = re.compile(r"(?<!!)\[([^\]]+)\]\(\.\./[^)]*\)")


def on_page_markdown(markdown: str, page, **_) -> str:
    """Return the page with links that leave ``docs`` replaced by their text."""
    return markdown if "/" in page.file.src_uri else OUTSIDE.sub(r"\1", markdown)
