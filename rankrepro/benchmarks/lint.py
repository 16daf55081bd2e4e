"""`lint/rules`: from a piece of bad code to the lint rule that explains what is wrong with it.

A document is a rule's explanation with every example taken out; a query is the bad example of a rule. As in BRIGHT,
the words of the two hardly overlap: the way from one to the other is to see what the code does wrong.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from rankrepro.benchmarks import splits
from rankrepro.benchmarks.base import Benchmark, Document, Query, Truth, opaque_id
from rankrepro.errors import BenchmarkError

Rule = Mapping[str, Any]  # an object of `ruff rule --all --output-format json`

# only examples that open their section: text before them (as in "Given:") would belong to the query
EXAMPLE = re.compile(r"^## Example\n+```python\n(.*?)^```", re.S | re.M)
FENCE = re.compile(r"^[ \t>]*```.*?^[ \t>]*```[ \t]*$", re.S | re.M)
EXAMPLE_SECTION = re.compile(r"^## Examples?:?\n.*?(?=^## |\Z)", re.S | re.M)
USE_INSTEAD = re.compile(r"^Use instead:$", re.M)  # remains of a better version outside the example section
# strings come first, so that a '#' inside one does not start a comment
STRING_OR_COMMENT = re.compile(
    r'"""(?:\\.|[^\\])*?"""' r"|'''(?:\\.|[^\\])*?'''" r'|"(?:\\.|[^"\\\n])*"' r"|'(?:\\.|[^'\\\n])*'" r"|#[^\n]*",
    re.S,
)
# rules about comments: only their examples keep comments
ABOUT_COMMENTS = re.compile(r"comment|todo|fixme|xxx|hack|shebang|noqa|suppress|blanket|rule-code|encoding-decl", re.I)
LEAK = 12  # a line with this many non-blank characters counts as a quotation


def build(benchmark_id: str, sources: Mapping[str, Path], params: Mapping[str, Any]) -> tuple[Benchmark, Truth]:
    """The benchmark of the installed ruff. `params`: `ruff` (its version), `novel_since` (a version), `shares`."""
    return from_rules(benchmark_id, read_rules(params["ruff"]), params)


def fingerprint() -> str:
    """The version of ruff that is installed."""
    try:
        return metadata.version("ruff")
    except metadata.PackageNotFoundError:
        return ""


def read_rules(version: str) -> list[Rule]:
    """All rules of ruff `version`, which must be the one installed in this environment."""
    installed = _ruff("--version").removeprefix("ruff ").strip()
    if installed != version:
        raise BenchmarkError(
            f"lint/rules is made from ruff {version}, {installed or 'none'} is installed: pip install ruff=={version}"
        )
    return json.loads(_ruff("rule", "--all", "--output-format", "json"))


def from_rules(benchmark_id: str, rules: list[Rule], params: Mapping[str, Any]) -> tuple[Benchmark, Truth]:
    """The benchmark of these rules."""
    rules = sorted(rules, key=rule_id)
    texts = {rule_id(r): text for r in rules if (text := query_text(r))}
    if not texts:
        raise BenchmarkError(f"{benchmark_id}: none of {len(rules)} rules has an example of bad code")
    # some rules share an example: then all of them explain it
    same = defaultdict(list)
    for name, text in texts.items():
        same[text].append(name)
    names = {opaque_id(benchmark_id, name): name for name in texts}
    qrels = {q: dict.fromkeys(same[texts[names[q]]], 1) for q in sorted(names)}
    corpus = {rule_id(r): document(r, texts.get(rule_id(r), "")) for r in rules}
    split = splits.assign(benchmark_id, splits.components(qrels), params["shares"])
    tags = {rule_id(r): ("novel" if is_novel(r, params["novel_since"]) else "familiar",) for r in rules}
    queries = {q: Query(q, texts[names[q]], split[q], tags[names[q]]) for q in qrels}
    visible = {q: judged for q, judged in qrels.items() if split[q] != "test"}
    return Benchmark(benchmark_id, queries, corpus, visible), Truth(qrels, splits.clusters(qrels))


def rule_id(rule: Rule) -> str:
    """The rule's code, or its name: the newest rules have no code."""
    return rule["code"] or rule["name"]


def query_text(rule: Rule) -> str:
    """The Python block that opens the section '## Example', without what reveals the rule; '' if there is none."""
    example = EXAMPLE.search(rule["explanation"])
    if not example:
        return ""
    code = example[1]
    if not ABOUT_COMMENTS.search(f"{rule['name']} {rule['summary']}"):
        code = without_comments(code) or code
    for name in (rule["code"], rule["name"]):
        if name and re.search(r"\d|-", name):  # a name like `print` gives nothing away: it is the code itself
            code = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", "", code)
    return code.strip("\n")


def without_comments(code: str) -> str:
    """The code without comments, which tell in the author's words what is wrong, and without the lines they leave."""
    lines = []
    bare = STRING_OR_COMMENT.sub(lambda m: "\0" if m[0].startswith("#") else m[0], code)
    for line in bare.split("\n"):
        if "\0" not in line:
            lines.append(line)
        elif stripped := line.replace("\0", "").rstrip():
            lines.append(stripped)
    return "\n".join(lines).strip("\n")


def document(rule: Rule, query: str) -> Document:
    """The rule's explanation without examples, code blocks and lines of its own query."""
    text = FENCE.sub("", EXAMPLE_SECTION.sub("", FENCE.sub("", rule["explanation"])))
    text = USE_INSTEAD.sub("", text)
    for line in query.split("\n"):
        characters = re.sub(r"\s", "", line)
        if len(characters) >= LEAK:
            text = re.sub(r"\s*".join(map(re.escape, characters)), "…", text)
    return Document(rule_id(rule), rule["name"].replace("-", " "), re.sub(r"\n{3,}", "\n\n", text).strip())


def is_novel(rule: Rule, since: str) -> bool:
    """Whether the rule has its present status (stable or preview) only since that version."""
    ((status, detail),) = rule["status"].items()
    return status in ("Stable", "Preview") and _version(detail["since"]) >= _version(since)


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.removeprefix("v").split(".")))


def _ruff(*arguments: str) -> str:
    command = [sys.executable, "-m", "ruff", *arguments]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False).stdout
