"""Hooks of MkDocs. Links from the documentation into the source are for readers of the repository; in the site they are plain text."""

import re

NOTEBOOK_LINK = re.compile(r'href="((?:\.\./)?[\w-]+)\.(?:md|ipynb)"')
ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):(?=<code)")  # Sphinx's, of docstrings; mkdocstrings prints it
OUTSIDE = re.compile(r"(?<!!)\[([^\]]+)\]\(\.\./[^)]*\)")


def on_page_markdown(markdown: str, page, **_) -> str:
    """Return the page with links that leave ``docs`` replaced by their text."""
    return markdown if "/" in page.file.src_uri else OUTSIDE.sub(r"\1", markdown)


def on_page_content(html: str, page, **_) -> str:
    """Return the page without the roles of docstrings; of a notebook with links to other pages, of which MkDocs sees those of Markdown only."""
    html = ROLE.sub("", html)
    return NOTEBOOK_LINK.sub(r'href="../\1/"', html) if page.file.src_uri.endswith(".ipynb") else html
