"""Supplementary Figures 4 and 5: proteins of one kind clustered by themselves: human vesicles, punctate yeast proteins.

The numbers of the vesicle-only proteins of simulated cells are compared in ``test_figure4_table3.py``.
"""

import numpy as np


def of_subset(results, subset):
    return [
        r for r in results if r.evaluator.name == "hierarchical-clustering" and r.evaluator.params["subset"] == subset
    ]


def test_vesicle_only_proteins_of_the_atlas_are_clustered(paper):
    results = paper.results("human-proteome", "hpa-v18", ["pci-conv3@lu2019-human"])
    (result,) = of_subset(results, "vesicles")
    assert result.details["n_proteins"] == len(result.tables["proteins"]) > 3


def test_punctate_proteins_of_nop1pr_are_clustered(paper):
    """By the network that the paper trained on this screen, which was not published.

    Labels of the user's ``images.csv``; its punctate proteins bear the label ``punctate``.
    """
    results = paper.results(
        "human-proteome", "nop1pr-orf", ["pci-conv4@lu2019-nop1pr"], subset=["punctate"], around=[""]
    )
    (result,) = [
        r for r in of_subset(results, "punctate") if r.evaluator.params["k"] == 3
    ]  # the other is Figure 4's cut
    assert result.details["n_proteins"] == len(result.tables["proteins"]) > 3


def test_a_subset_keeps_the_statistics_of_all_proteins(bundled):
    """Normalised over all proteins first: the means of the subset's features are not zero, as they would be by themselves."""
    output = bundled.run("human-proteome", dataset="human-sim", features=["intensity"])
    (result,) = of_subset(output, "vesicles")
    values = result.tables["features"].drop(columns="protein").to_numpy()
    assert len(values) == result.details["n_proteins"] == 9
    assert np.abs(values.mean(axis=0)).max() > 0.1
