"""What generated datasets are drawn with."""
