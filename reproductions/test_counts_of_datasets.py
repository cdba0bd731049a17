"""What the paper counts of its datasets, beside what is loaded."""

import pytest

import pci_bench
from pci_bench.data.counts import counts, said_of
from pci_bench.datasets import DATASETS

SCREENS = ["cyclops-wt2", "nop1pr-orf", "nup49-orf", "hpa-v18"]


def loaded(paper, name):
    paper.need(name)
    cells = pci_bench.load_dataset(name)
    paper.beside(said_of(cells))
    return cells


def test_chong2015_has_the_printed_number_of_cells(paper):
    """The map that merges and drops nothing keeps all cells. The 17 classes are not asserted: merging leaves 18."""
    cells = loaded(paper, "chong2015")
    assert counts(cells.obs)["cells"] == cells.meta.paper["cells"]


@pytest.mark.parametrize("screen", SCREENS)
def test_no_image_of_a_screen_has_fewer_cells_than_the_paper_keeps(paper, screen):
    """Counts depend on how a user segments and crops, and on the release, so they are printed; the paper's filter is asserted."""
    cells = loaded(paper, screen)
    sizes = cells.obs["image"].value_counts()
    small = sizes[sizes < DATASETS.get(screen).fewest_cells]
    assert small.empty, f"{len(small)} images of {screen} would be left out by the paper, for example {small.index[0]}"
    assert cells.obs.loc[cells.obs["protein"].notna(), "protein"].size


def test_every_dataset_of_the_paper_has_its_printed_counts():
    assert DATASETS.get("chong2015").meta.paper["cells"] == 30_889
    for name in SCREENS:
        assert set(DATASETS.get(name).meta.paper) == {"cells", "images", "proteins"}
