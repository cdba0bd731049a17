"""Numbers and claims of the paper's text, as data."""
