"""Cells and what is known about them: crops on disk, tables of cells, annotations, ontologies."""
