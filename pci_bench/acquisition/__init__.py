"""Where real data come from: downloads, archives, folders of crop files."""
