"""The paper's tables as data: titles, rows, columns and printed values."""
