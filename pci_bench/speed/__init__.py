"""What `pci-bench speed` measures: this package beside what a user would use instead, on this machine and in one run."""
