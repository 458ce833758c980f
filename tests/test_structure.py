"""The package's shape: size and names of files and functions, what an import does, and plain prose.

Which package may import which is in pyproject.toml, under ``tool.importlinter``.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import impasto

ROOT = Path(__file__).parents[1]
SOURCE = Path(impasto.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])

MOST_ENTRIES = 25
LONGEST_FILE = 400
LONGEST_FUNCTION = 60
MEDIAN_FUNCTION = 8
LONGEST_SENTENCE = 35

VAGUE_NAMES = {"utils", "util", "common", "helpers", "helper", "misc", "core", "manager"}
FORBIDDEN = re.compile(
    r"refuses to know|gone on with|the way back|so found|\bthe desk\b|\bthe watcher\b",
    re.IGNORECASE,
)


def module_of(path: Path) -> str:
    """The dotted name below the package; "impasto" for the package itself."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts) or "impasto"


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from ``def`` to the end, without the docstring."""
    assert function.end_lineno is not None
    first = function.body[0]
    docstring = 0
    if ast.get_docstring(function, clean=False) is not None:
        assert first.end_lineno is not None
        docstring = first.end_lineno - first.lineno + 1
    return function.end_lineno - function.lineno + 1 - docstring


each_file = pytest.mark.parametrize("path", FILES, ids=module_of)


# ---- files and functions -------------------------------------------------------------------------


def test_the_top_of_the_package_has_few_entries():
    entries = [path.name for path in SOURCE.iterdir() if path.name != "__pycache__"]
    assert len(entries) <= MOST_ENTRIES


def test_no_two_files_have_one_name():
    names = Counter(path.name for path in FILES if path.name != "__init__.py")
    assert [name for name, count in names.items() if count > 1] == []


def test_no_file_is_long():
    lines = {module_of(path): len(path.read_text("utf-8").splitlines()) for path in FILES}
    assert {name: count for name, count in lines.items() if count > LONGEST_FILE} == {}


def test_no_function_is_long_and_most_are_short():
    lengths = {
        f"{module_of(path)}.{function.name}:{function.lineno}": length(function)
        for path in FILES
        for function in functions(parsed(path))
    }
    assert {name: count for name, count in lengths.items() if count > LONGEST_FUNCTION} == {}
    assert statistics.median(lengths.values()) <= MEDIAN_FUNCTION


def test_the_length_of_a_function_leaves_out_its_docstring():
    (function,) = functions(ast.parse('def f():\n    """One.\n\n    Two.\n    """\n    return 1\n'))
    assert length(function) == 2


@each_file
def test_files_are_named_for_their_contents(path: Path):
    assert not VAGUE_NAMES & set(module_of(path).split("."))


@each_file
def test_every_module_has_a_docstring(path: Path):
    text = path.read_text("utf-8")
    assert not text.strip() or ast.get_docstring(ast.parse(text))


def test_only_the_command_line_exits():
    """Ruff forbids ``print``, ``sys.exit`` and ``os._exit`` elsewhere, but no builtin name."""
    exiting = {
        module_of(path)
        for path in FILES
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Name) and node.id == "SystemExit"
    }
    assert {name for name in exiting if name.split(".")[0] not in ("__main__", "cli")} == set()


# ---- imports -------------------------------------------------------------------------------------


EFFECTS = {
    *(
        "device",
        "manual_seed",
        "seed",
        "default_rng",
        "set_num_threads",
        "set_default_dtype",
        "set_default_device",
    ),
    *(
        "set_grad_enabled",
        "use_deterministic_algorithms",
        "is_available",
        "empty_cache",
        "to",
        "cuda",
    ),
    *(
        "open",
        "mkdir",
        "makedirs",
        "touch",
        "write_text",
        "write_bytes",
        "read_text",
        "read_bytes",
        "unlink",
        "rename",
    ),
    *(
        "mkdtemp",
        "mkstemp",
        "iterdir",
        "glob",
        "exists",
        "is_file",
        "is_dir",
        "get",
        "getenv",
        "putenv",
        "chdir",
    ),
    *(
        "basicConfig",
        "simplefilter",
        "filterwarnings",
        "system",
        "run",
        "Popen",
        "import_module",
        "print",
    ),
}


def effects(tree: ast.AST) -> Iterator[int]:
    """Lines that act on the machine during an import, when bodies of functions do not run."""
    if isinstance(tree, ast.Lambda):
        return
    if isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef):
        evaluated = [
            *tree.decorator_list,
            *tree.args.defaults,
            *(value for value in tree.args.kw_defaults if value),
        ]
        for node in evaluated:
            yield from effects(node)
        return
    if isinstance(tree, ast.If) and ast.unparse(tree.test) == "__name__ == '__main__'":
        return
    if isinstance(tree, ast.Call):
        name = tree.func.attr if isinstance(tree.func, ast.Attribute) else ast.unparse(tree.func)
        if name in EFFECTS:
            yield tree.lineno
    if isinstance(tree, ast.Assign | ast.AugAssign | ast.Delete):
        targets = [tree.target] if isinstance(tree, ast.AugAssign) else tree.targets
        if any("environ" in ast.unparse(target) for target in targets):
            yield tree.lineno
    for child in ast.iter_child_nodes(tree):
        yield from effects(child)


@each_file
def test_an_import_does_nothing_to_the_machine(path: Path):
    assert list(effects(parsed(path))) == []


@pytest.mark.parametrize(
    "text",
    [
        "DEVICE = torch.device('cpu')",
        "torch.manual_seed(0)",
        "class A:\n    x = open('f').read()",
        "if True:\n    Path('x').mkdir()",
        "def f(x=torch.device('cpu')):\n    pass",
        "def f(*, x=open('f')):\n    pass",
        "for x in [1]:\n    os.makedirs('y')",
        "os.environ['A'] = '1'",
        "X = [p for p in Path('.').iterdir()]",
        "HOME = os.environ.get('HOME')",
    ],
)
def test_effects_of_an_import_are_detected(text: str):
    assert list(effects(ast.parse(text)))


@pytest.mark.parametrize(
    "text",
    [
        "def f():\n    open('x')",
        "make = lambda: torch.device('cpu')",
        "class A:\n    d: int = field(default_factory=lambda: torch.device('cpu'))",
        "class A:\n    def g(self):\n        torch.manual_seed(0)",
        "if __name__ == '__main__':\n    run()",
    ],
)
def test_what_is_only_defined_is_no_effect(text: str):
    assert not list(effects(ast.parse(text)))


HEAVY = {"torch", "numpy", "PIL", "skimage", "rich"}
LIGHT = [
    "impasto",
    "impasto.cli",
    "impasto.errors",
    "impasto.events",
    "impasto.geometry",
    "impasto.planning.schedule",
    "impasto.recipe.loading",
    "impasto.recipe.options",
    "impasto.recipe.records",
    "impasto.recipe.values",
    "impasto.runs.snapshots",
    "impasto.sweeps.grid",
]


def test_settings_and_the_command_line_are_imported_without_heavy_libraries():
    """One interpreter for each, started together: one import must not hide what another loads."""
    program = "import sys, {}; print(*set(sys.modules))"
    running = {
        name: subprocess.Popen(
            [sys.executable, "-c", program.format(name)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in LIGHT
    }
    loaded = {
        name: set(process.communicate(timeout=60)[0].split()) for name, process in running.items()
    }
    assert all(name in modules for name, modules in loaded.items())
    heavy = {name: HEAVY - {"rich"} if name == "impasto.cli" else HEAVY for name in LIGHT}
    assert {name: modules & heavy[name] for name, modules in loaded.items()} == {
        name: set() for name in LIGHT
    }


def test_public_functions_are_not_replaced_by_packages_of_their_name():
    for module in pkgutil.walk_packages(impasto.__path__, "impasto."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    public = {name for name in impasto.__all__ if name != "__version__"}
    assert {name for name in public if not callable(getattr(impasto, name))} == set()


# ---- prose ---------------------------------------------------------------------------------------


def paragraphs(markdown: str) -> Iterator[str]:
    """The running text of a page: without code blocks, tables, headings and comments.

    Each item of a list is a paragraph of its own.
    """
    text = re.sub(r"<!--.*?-->", "", markdown, flags=re.DOTALL)
    text = re.sub(r"^( *)(```|~~~).*?^\1\2[^\n]*$", "", text, flags=re.DOTALL | re.MULTILINE)
    lines: list[str] = []
    for line in [*text.splitlines(), ""]:
        starts_item = re.match(r"\s*([-*+]|\d+[.)])\s+", line)
        is_text = line.strip() and not re.match(r"\s*(\||#|\[[^\]]+\]:|<)|    ", line)
        if (starts_item or not is_text) and lines:
            yield " ".join(lines)
            lines = []
        if starts_item:
            lines.append(line[starts_item.end() :])
        elif is_text or (line.strip() and lines):
            lines.append(line.strip())
    assert not lines


def sentences(paragraph: str) -> Iterator[str]:
    """A paragraph's sentences, each link as its text and each piece of inline code as one word."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", paragraph)
    text = re.sub(r"`[^`]*`", "CODE", text)
    text = re.sub(r"\b(e\.g|i\.e|cf|et al|vs|Fig|Eq|No)\.", r"\1", text)
    for sentence in re.split(r"(?<=[.!?])[\"')*_]*\s+(?=[\"'(*_]*[A-Z0-9])|(?<=:)\s*$", text):
        if sentence.strip():
            yield sentence.strip()


def words(sentence: str) -> int:
    return len([word for word in sentence.split() if re.search(r"\w", word)])


def too_long(markdown: str) -> list[str]:
    return [
        sentence
        for paragraph in paragraphs(markdown)
        for sentence in sentences(paragraph)
        if words(sentence) > LONGEST_SENTENCE
    ]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_no_sentence_of_a_document_is_long(path: Path):
    assert too_long(path.read_text("utf-8")) == []


def test_sentences_are_split_and_counted():
    page = """# A heading that is no sentence

One two three. Four `five six` [seven eight](nine.md)! A version 1.5 is
one sentence, e.g. this one?

| a table | is no. Sentence |

- first item
  goes on
- second item

```sh
code. Not a sentence.
```

1. numbered
"""
    split = [sentence for text in paragraphs(page) for sentence in sentences(text)]
    assert split == [
        "One two three.",
        "Four CODE seven eight!",
        "A version 1.5 is one sentence, e.g this one?",
        "first item goes on",
        "second item",
        "numbered",
    ]
    assert [words(sentence) for sentence in split] == [3, 4, 9, 4, 2, 1]
    assert too_long("word " * 35 + "\n\n" + "word " * 36) == [("word " * 36).strip()]


def test_no_forbidden_phrase_is_in_the_source():
    found = {
        module_of(path): FORBIDDEN.findall(re.sub(r"\s+", " ", path.read_text("utf-8")))
        for path in FILES
    }
    assert {name: phrases for name, phrases in found.items() if phrases} == {}
