"""Figures, and the report in HTML, Markdown and JSON."""
