"""What the suite asks of the machine: files, threads, signals, libraries, text for terminals and pages."""
