"""Tables, figures and HTML reports from results."""
