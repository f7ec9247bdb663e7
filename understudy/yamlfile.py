"""YAML that remembers on which line each key stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .faults import CatalogError, Fault

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Tagged:
    """A value under a tag of Compose: ``!reset`` takes a key away, ``!override`` replaces instead of merging."""

    tag: str
    value: Any


# libyaml's parser, where PyYAML has it: a converge reads a hundred and thirty files.
_Safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Safe):  # type: ignore[misc]
    """Plain YAML and Compose's two tags."""

    def construct_tagged(self, node: yaml.Node) -> Tagged:
        """The value below the tag."""
        if isinstance(node, yaml.MappingNode):
            return Tagged(node.tag, self.construct_mapping(node, deep=True))
        if isinstance(node, yaml.SequenceNode):
            return Tagged(node.tag, self.construct_sequence(node, deep=True))
        return Tagged(node.tag, getattr(node, "value", None))


for _tag in ("!reset", "!override"):
    _Loader.add_constructor(_tag, _Loader.construct_tagged)


@dataclass
class YamlFile:
    """A parsed file: plain data and the line (from 1) of every key path in it."""

    path: Path
    data: Any
    lines: dict[KeyPath, int] = field(default_factory=dict)

    def line(self, key: KeyPath) -> int:
        """The line of a key, or of its nearest parent that has one."""
        while key and key not in self.lines:
            key = key[:-1]
        return self.lines.get(key, 1)


def dotted(key: KeyPath) -> str:
    """``("a", 0, "b")`` as ``a[0].b``."""
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def load(path: Path) -> YamlFile:
    """Read one file. Invalid YAML, duplicate keys and unreadable files raise CatalogError."""
    try:
        return _parsed(path, path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CatalogError([Fault("error", path, 0, "", f"cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise CatalogError([Fault("error", path, 0, "", "is not UTF-8 text")]) from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise CatalogError([Fault("error", path, line, "", f"invalid YAML: {error.problem}")]) from error
    except yaml.YAMLError as error:
        raise CatalogError([Fault("error", path, 0, "", f"invalid YAML: {error}")]) from error


def _parsed(path: Path, text: str) -> YamlFile:
    loader, result = _Loader(text), YamlFile(path, None)
    try:
        node = loader.get_single_node()
        _walk(node, (), result)  # before the values are made: that puts what `<<` merges into the nodes
        result.data = None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()
    return result


def _walk(node: yaml.Node | None, key: KeyPath, result: YamlFile) -> None:
    if isinstance(node, yaml.MappingNode):
        _walk_mapping(node, key, result)
    elif isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            result.lines[(*key, index)] = child.start_mark.line + 1
            _walk(child, (*key, index), result)


def _walk_mapping(node: yaml.MappingNode, key: KeyPath, result: YamlFile) -> None:
    seen: set[str] = set()
    for name_node, child in node.value:
        name = str(getattr(name_node, "value", name_node))
        line = name_node.start_mark.line + 1
        if name == "<<":
            continue
        if name in seen:
            raise CatalogError([Fault("error", result.path, line, dotted((*key, name)), "is given twice")])
        seen.add(name)
        result.lines[(*key, name)] = line
        _walk(child, (*key, name), result)
