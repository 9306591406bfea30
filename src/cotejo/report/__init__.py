"""What a person reads: figures, and the report in HTML, Markdown and JSON."""
