"""From nothing to the printed number: what a table or figure of the paper needs, getting it, running it, and comparing."""
