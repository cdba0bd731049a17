"""Numbers that others published of other feature sets on datasets of the paper: shown below our rows, never among them."""
