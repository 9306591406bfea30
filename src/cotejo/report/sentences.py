"""Fills in the texts of a locale: the sentences of a page, and what a finding is in words."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from cotejo.comparison.records import Finding


class Sentences:
    """Renders texts of a locale as templates.

    Args:
        environment: As `build_environment` builds it; with autoescape, what comes out is safe in the page.
        findings: By key the text of each finding.
        shared: Values that every text may use.
    """

    def __init__(self, environment: Environment, findings: Mapping[str, str], **shared: Any) -> None:  # noqa: ANN401
        self.environment = environment
        self.findings = findings
        self.shared = shared

    def render(self, text: str, **values: Any) -> str:  # noqa: ANN401 - a template's values
        """Renders a text in one line."""
        rendered = self.environment.from_string(text).render(**self.shared, **values)
        # plain blanks only: the no-break spaces in numbers must stay
        line = re.sub(r"[ \n]+", " ", rendered).strip(" ")
        return Markup(line) if self.environment.autoescape else line  # noqa: S704 - rendered with autoescape

    def render_finding(self, finding: Finding) -> str:
        """Renders a conclusion."""
        return self.render(self.findings[finding.key], **finding.values)

    def render_findings(self, findings: Iterable[Finding]) -> str:
        """Renders several conclusions as one paragraph."""
        line = " ".join(map(self.render_finding, findings))
        return Markup(line) if self.environment.autoescape else line  # noqa: S704 - each is rendered with autoescape
