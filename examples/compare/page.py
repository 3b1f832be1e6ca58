# SPDX-License-Identifier: MIT
"""A page of text, tables and figures, as Markdown with the figures beside it,
and as one file of HTML that has them inside and asks the network for nothing.
In texts, `this` is code and **this** is bold."""

import html
import os
import re

from plots import COLOURS

CSS = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff;
       max-width: 62rem; margin: 2rem auto 4rem; padding: 0 1rem; }
h1 { font-size: 1.7rem; } h2 { margin-top: 2.6rem; border-bottom: 1px solid
     #ddd; padding-bottom: .2rem; } h3 { margin: 1.8rem 0 .4rem; }
code { font: .92em ui-monospace, monospace; background: #f3f3f3;
       padding: 0 .2em; border-radius: 3px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; margin: .5rem 0; }
th, td { padding: .25rem .6rem; text-align: right; white-space: nowrap; }
th { border-bottom: 2px solid #bbb; font-weight: 600; }
td { border-bottom: 1px solid #eee; font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; }
.dot { display: inline-block; width: .7em; height: .7em; border-radius: 50%;
       margin-right: .45em; }
figure { margin: 1.2rem 0 2rem; } svg { max-width: 100%; height: auto; }
figcaption { font-size: .88rem; color: #555; }
li { margin: .4rem 0; }
"""
# What names something in a drawing, or refers to it.
IN_DRAWING = re.compile(r"""(\bid=['"]|href=['"]#|url\(['"]?#)""")


class Page:
    """Parts in their order; each is written in two ways at the end."""

    def __init__(self, title):
        self.title, self.parts = title, []

    def head(self, level, text):
        self.parts.append((f"{'#' * level} {text}",
                           f"<h{level}>{inline(text)}</h{level}>"))

    def text(self, text):
        self.parts.append((text, f"<p>{inline(text)}</p>"))

    def bullets(self, texts):
        self.parts.append((
            "\n".join(f"- {text}" for text in texts),
            "<ul>\n" + "\n".join(f"<li>{inline(text)}</li>"
                                 for text in texts) + "\n</ul>"))

    def table(self, header, rows):
        """The first column is of names, the others of numbers."""
        lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
        marked = "\n".join(
            "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |"
            for line in lines)
        body = "\n".join("<tr>" + "".join(
            f"<td>{dot(cell) if i == 0 else ''}{inline(cell)}</td>"
            for i, cell in enumerate(row)) + "</tr>" for row in rows)
        heads = "".join(f"<th>{inline(cell)}</th>" for cell in header)
        self.parts.append((
            marked, f'<div class="wide"><table>\n<tr>{heads}</tr>\n{body}\n'
            "</table></div>"))

    def figure(self, directory, name, title, says):
        self.parts.append((
            f"![{title}]({name})\n\n{says}",
            f"<figure>\n{drawing(directory, name, title)}\n"
            f"<figcaption>{inline(says)}</figcaption>\n</figure>"))

    def write(self, directory, name):
        marked = "\n\n".join(part for part, _ in self.parts) + "\n"
        body = "\n".join(part for _, part in self.parts)
        write(directory, f"{name}.md", marked)
        write(directory, f"{name}.html",
              '<!DOCTYPE html>\n<html lang="en">\n<head>\n'
              '<meta charset="utf-8">\n<meta name="viewport" '
              'content="width=device-width, initial-scale=1">\n'
              f"<title>{html.escape(self.title)}</title>\n"
              f"<style>{CSS}</style>\n</head>\n<body>\n{body}\n</body>\n"
              "</html>\n")


def inline(text):
    text = html.escape(text)
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    return re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", text)


def dot(cell):
    colour = COLOURS.get(cell)
    return (f'<span class="dot" style="background:{colour}"></span>'
            if colour else "")


def drawing(directory, name, title):
    """The file's <svg> element. Its ids are made its own, as several share the
    page."""
    with open(os.path.join(directory, name), encoding="utf-8") as file:
        text = file.read()
    text = text[text.index("<svg"):]
    text = IN_DRAWING.sub(rf"\g<1>{name.partition('.')[0]}-", text)
    return re.sub(r"<title>[^<]*</title>",
                  f"<title>{html.escape(title)}</title>", text, count=1)


def write(directory, name, text):
    with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
        file.write(text)
