"""`report`: the pages, from judged files alone."""

from __future__ import annotations

from rankrepro.cli.options import REPORTS, Reports, Scale, check_scale


def report(scale: Scale = "desk", reports: Reports = REPORTS) -> None:
    """Make the pages of a scale, from judged files and cards.

    Nothing is computed. In a fresh clone this makes the pages of the published results (desk); later, run it again
    after a change of a card's words or of a template.
    """
    from rankrepro.report import rebuild

    folder = reports / check_scale(scale)
    papers = rebuild(folder, scale)
    ran = [p.key for p in papers if p.results]
    print(f"{folder / 'index.html'}: {len(papers)} pages, {len(ran)} with results: {', '.join(ran) or 'none'}")
