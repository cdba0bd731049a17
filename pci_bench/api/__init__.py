"""Extension points: one base class each, with the registry that holds what plug-ins bring."""
