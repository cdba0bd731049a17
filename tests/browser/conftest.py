"""The browser of all tests of this folder."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def browser():
    """One Chromium for all tests of a module."""
    from chromium import CHROMIUM, FLAGS
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield launched
        launched.close()
