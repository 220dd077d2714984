#!/usr/bin/env python3
"""Wrap the comments of C files that are wider than 100 columns; clang-format does the code and leaves comments alone.

usage: wrap_comments.py FILE...
Only a paragraph with a line that is too wide is touched. Labels ("Owns:  "), list marks and hanging indents stay; so do
tables and drawings, which nobody but their author can fold."""
import re
import sys
import textwrap

COLUMNS_MAX = 100
LABEL = re.compile(r"(?:[A-Z]\w*:  +|(?:Owns|Threads?|Holds|Errors|Pure|Returns|usage): +|[-*] +|\d+\. +|"
                   r"[A-Z][A-Z_0-9]{2,}  +|\S+(?: \S+)*? {3,}(?=\S))")
CODE_INDENT = 4     # lines that stand this far in are an example: each by itself
DRAWING = re.compile(r"\S {3,}\S|[|]|--|\+-")
BANNER = re.compile(r"(\s*/\*) -{3,} (.*?) -{3,} \*/$")


def indent_of(line):
    return len(line) - len(line.lstrip())


def fold(paragraph, margin):
    """The lines of one paragraph (without their ' * '), folded."""
    first = paragraph[0]
    hang = indent_of(first) + (LABEL.match(first.lstrip()).end() if LABEL.match(first.lstrip()) else 0)
    head, rest = first[:hang], " " * (indent_of(paragraph[1]) if len(paragraph) > 1 else hang)
    text = " ".join([first[hang:].strip(), *(line.strip() for line in paragraph[1:])])
    return textwrap.wrap(text, COLUMNS_MAX, initial_indent=margin + head, subsequent_indent=margin + rest,
                         break_long_words=False, break_on_hyphens=False)


def paragraphs(body):
    """Groups the lines of a comment: a label, an empty line, a colon or another indent begins a new paragraph."""
    groups = []
    for line in body:
        last = groups[-1] if groups else None
        joins = (last and line and last[-1] and not LABEL.match(line.lstrip()) and not last[-1].endswith(":")
                 and (len(last) > 1 or LABEL.match(last[0].lstrip()) or indent_of(line) < CODE_INDENT)
                 and (len(last) == 1 or indent_of(last[1]) == indent_of(line))
                 and (len(last) > 1 or LABEL.match(last[0].lstrip()) or indent_of(last[0]) == indent_of(line)))
        if joins:
            last.append(line)
        else:
            groups.append([line])
    return groups


def wrap_block(indent, body):
    """A comment of several lines, from its inner lines."""
    margin = indent + " * "
    out = [indent + "/*"]
    for paragraph in paragraphs(body):
        wide = any(len(margin + line) > COLUMNS_MAX for line in paragraph)
        if wide and not any(DRAWING.search(LABEL.sub("", line.lstrip(), count=1)) for line in paragraph):
            out += fold(paragraph, margin)
        else:
            out += [(margin + line).rstrip() for line in paragraph]
    return out + [indent + " */"]


def inner_lines(block):
    """What stands inside a comment of several lines, without the stars."""
    lines = [re.sub(r"^\s*/\*+ ?", "", block[0])] + [re.sub(r"^\s*\*(?!/) ?|^\s+(?!\*)", "", line) for line in block[1:]]
    lines[-1] = re.sub(r"\s*\*+/$", "", lines[-1])
    lines = [line.rstrip() for line in lines]
    return lines[1 if not lines[0] else 0:len(lines) - (0 if lines[-1].strip() else 1)]


def wrap(text):
    lines, out, at = text.split("\n"), [], 0
    while at < len(lines):
        line = lines[at]
        opens = re.match(r"(\s*)/\*", line)
        end = at
        if opens and "*/" not in line:
            while end + 1 < len(lines) and "*/" not in lines[end]:
                end += 1
        block = lines[at:end + 1]
        trailing = re.match(r"(\s*)([^\s/].*?)\s*/\*\s*(.*?)\s*\*/$", line)
        if all(len(b) <= COLUMNS_MAX for b in block):
            out += block
        elif BANNER.match(line):
            head = " ---- ".join(BANNER.match(line).groups()) + " "
            out.append(head + "-" * (COLUMNS_MAX - len(head) - 3) + " */")
        elif opens and len(block) == 1 and line.rstrip().endswith("*/") and line.count("*/") == 1:
            out += wrap_block(opens.group(1), [line.strip()[2:-2].strip()])
        elif opens and len(block) > 1 and block[-1].rstrip().endswith("*/"):
            out += wrap_block(opens.group(1), inner_lines(block))
        elif trailing and line.count("/*") == 1:
            begin = len(out) - 1 if out and re.search(r"\w$", out[-1]) else len(out)    # "uint64_t" stands alone above
            above = wrap(trailing.group(1) + "/* " + trailing.group(3) + " */").split("\n")
            out[begin:] = [*above, *out[begin:], trailing.group(1) + trailing.group(2)]
        else:
            out += block
        at = end + 1
    return "\n".join(out)


def wrap_files(paths):
    for path in paths:
        with open(path, encoding="utf-8") as f:
            text = f.read()
        wrapped = wrap(text)
        if wrapped != text:
            with open(path, "w", encoding="utf-8") as f:
                f.write(wrapped)


if __name__ == "__main__":
    wrap_files(sys.argv[1:])
