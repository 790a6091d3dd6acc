"""Sphinx extension: formulas as MathML, converted by docutils, which every current browser draws itself."""

from docutils.nodes import SkipNode
from docutils.utils.math.latex2mathml import tex2mathml


def visit_math(translator, node):
    translator.body.append(tex2mathml(node.astext()))
    raise SkipNode


def visit_math_block(translator, node):
    identifiers = "".join(f' id="{name}"' for name in node["ids"][:1])
    number = f'<span class="eqno">({node["number"]})</span>' if node["number"] else ""
    formula = tex2mathml(node.astext(), as_block=True)
    # The theme lays the number and the formula out in one row; the formula takes what the number leaves.
    translator.body.append(
        f'<div class="math"{identifiers} style="margin: 1em 0">{number}<div style="flex: 1">{formula}</div></div>'
    )
    raise SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
