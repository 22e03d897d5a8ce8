"""Console blocks of Markdown pages: their commands, and the lines that each prints."""

import re
from collections.abc import Iterator


def blocks(page: str, kind: str) -> list[str]:
    """The contents of a page's fenced blocks of one kind, also of indented ones."""
    return re.findall(rf"^ *```{kind}\n(.*?)^ *```$", page, re.M | re.S)


def commands(block: str) -> Iterator[tuple[str, list[str]]]:
    """The commands of a console block, each with the lines it prints; heredocs and continued lines are parts of one."""
    lines = iter(block.splitlines())
    command: list[str] = []
    shown: list[str] = []
    for line in lines:
        if line.lstrip().startswith("$ "):
            if command:
                yield "\n".join(command), shown
            command, shown = [line.lstrip().removeprefix("$ ")], []
            while command[-1].endswith("\\"):
                command.append(next(lines))
            if heredoc := re.search(r"<<'(\w+)'", command[-1]):
                while command[-1] != heredoc[1]:
                    command.append(next(lines))
        else:
            shown.append(line)
    if command:
        yield "\n".join(command), shown
