"""Sphinx extension: quick checks, which a reader answers in the page, without a server.

A directive with a question, choices (a task list) or a number, and after ``+++`` the reason::

    ```{quick-check}
    :answer: 2**7 - 100
    :unit: states
    A network has 100 weights. How many basis states stay unused?
    +++
    Seven qubits have 128 basis states.
    ```

The answer is computed when the page is built. Without JavaScript the reason can still be opened.
"""

import ast
import math
import operator
import re
from html import escape

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

CHOICE = re.compile(r"- \[( |x)\] (.+)")
OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
}
FUNCTIONS = {"ceil": math.ceil, "log2": math.log2, "sqrt": math.sqrt}


def computed(expression: str) -> float:
    """Compute numbers, + - * / // **, ceil, log2 and sqrt, and nothing else."""

    def value(node):
        match node:
            case ast.Constant(value=int() | float() as number):
                return number
            case ast.BinOp(left, operation, right) if type(operation) in OPERATORS:
                return OPERATORS[type(operation)](value(left), value(right))
            case ast.UnaryOp(ast.USub(), operand):
                return -value(operand)
            case ast.Call(ast.Name(name), [argument], []) if name in FUNCTIONS:
                return FUNCTIONS[name](value(argument))
        raise ValueError(f"answer must be arithmetic, got {expression!r}")

    return value(ast.parse(expression, mode="eval").body)


def shown(number: float) -> str:
    """The number as the book writes it: thousands with commas, a true minus sign."""
    text = f"{number:,}" if float(number).is_integer() else f"{number:,.4g}"
    return text.replace("-", "\N{MINUS SIGN}")


class QuickCheck(SphinxDirective):
    has_content = True
    option_spec = {  # noqa: RUF012
        "answer": directives.unchanged_required,
        "unit": directives.unchanged,
        "tolerance": float,
    }

    def run(self):
        lines = list(self.content)
        if "+++" not in lines:
            raise self.error("a quick check needs its reason after a line +++")
        cut = lines.index("+++")
        choices = [match.groups() for line in lines[:cut] if (match := CHOICE.fullmatch(line))]
        right = [text for mark, text in choices if mark == "x"]
        if bool(choices) == ("answer" in self.options) or (choices and len(right) != 1):
            raise self.error("a quick check has an answer, or choices of which one is right")
        question = [line for line in lines[:cut] if not CHOICE.fullmatch(line)]
        name = f"quick-check-{self.env.new_serialno('quick-check')}"

        made = [self.html('<form class="quick-check"><p class="quick-check-title">Quick check</p>')]
        made += [self.html(f'<div id="{name}">'), *self.parsed(question), self.html("</div>")]
        if choices:
            made.append(self.html(f'<div role="radiogroup" aria-labelledby="{name}">'))
            for mark, text in choices:
                is_right = " data-right" if mark == "x" else ""
                made += [
                    self.html(f'<label><input type="radio" name="{name}"{is_right}> <span>'),
                    *self.inline(text),
                    self.html("</span></label>"),
                ]
            made.append(self.html("</div>"))
            answer = self.inline(right[0])
        else:
            number = computed(self.options["answer"])
            unit = escape(self.options.get("unit", ""))
            field = (
                f'<input type="text" inputmode="decimal" autocomplete="off" size="10" '
                f'aria-labelledby="{name}" data-answer="{number!r}" '
                f'data-tolerance="{self.options.get("tolerance", 0)}">'
            )
            made.append(self.html(f'<p class="quick-check-number">{field} {unit}</p>'))
            answer = [nodes.Text(f"{shown(number)} {self.options.get('unit', '')}".strip())]
        answered = nodes.paragraph("", "", nodes.strong("", "", *answer))
        made += [
            self.html(
                '<p class="quick-check-act"><button type="submit">Check</button>'
                '<output role="status"></output></p>'
                "<details><summary>Answer</summary>"
            ),
            answered,
            *self.parsed(lines[cut + 1 :]),
            self.html("</details></form>"),
        ]
        return made

    def html(self, text):
        return nodes.raw("", text, format="html")

    def parsed(self, lines):
        container = nodes.Element()
        self.state.nested_parse(
            type(self.content)(lines, "quick-check"), self.content_offset, container
        )
        return container.children

    def inline(self, text):
        return self.state.inline_text(text, self.lineno)[0]


def setup(app):
    app.add_directive("quick-check", QuickCheck)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
