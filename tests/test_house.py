"""The house's plan holds: who may import whom, who may print, and what an import may do.

The tables below are those of the architecture page. A new room is added here, on the floor where it
belongs.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import impasto

SOURCE = Path(impasto.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))

# ---- the plan ------------------------------------------------------------------------------------

FLOORS = {
    **dict.fromkeys(
        (
            "amounts",
            "axes",
            "errors",
            "recipe",
            "recipes",
            "events",
            "geometry",
            "schedule",
            "snapshots",
        ),
        0,
    ),
    **dict.fromkeys(
        (
            "assets",
            "images",
            "colour",
            "museum",
            "networks",
            "objectives",
            "solvers",
            "tiling",
            "metrics",
        ),
        1,
    ),
    **dict.fromkeys(
        ("machine", "contention", "pages", "scratch", "spectrum", "preconditioner", "linesearch"), 1
    ),
    **dict.fromkeys(
        (
            "engine",
            "problem",
            "planning",
            "fast",
            "maximising",
            "request",
            "state",
            "video",
            "runs",
            "history",
        ),
        2,
    ),
    **dict.fromkeys(
        ("api", "comparing", "doctor", "explaining", "explanation", "painting", "retrace"), 3
    ),
    **dict.fromkeys(("sweeping", "wiring", "destination", "recorder"), 3),
    **dict.fromkeys(("speed", "opening"), 2),
    **dict.fromkeys(("cli", "exhibit", "reports", "timelapse", "studio", "cluster", "__main__"), 4),
}

# On one floor nobody imports anybody, but for these: (who, whom).
NEIGHBOURS = {
    ("amounts", "errors"),
    ("recipe", "amounts"),
    ("recipe", "errors"),
    ("schedule", "errors"),
    ("schedule", "geometry"),
    ("schedule", "recipe"),
    ("events", "geometry"),
    ("snapshots", "errors"),
    ("networks.weights", "assets"),
    ("networks.weights", "scratch"),
    ("museum", "assets"),
    ("tiling", "objectives.base"),  # the contract's types
    ("tiling", "scratch"),  # where targets wait
    ("solvers", "scratch"),  # and what the search remembers
    ("solvers", "preconditioner"),
    ("solvers", "linesearch"),
    ("preconditioner", "scratch"),
    ("preconditioner", "spectrum"),
    ("objectives.content", "scratch"),
    ("machine", "assets"),
    ("machine", "networks.convolution"),
    ("machine", "networks.timing"),
    ("engine", "problem"),
    ("request", "opening"),
    ("speed", "planning"),
    ("engine", "state"),
    ("history", "runs"),
    ("api", "destination"),
    ("api", "recorder"),
    ("api", "painting"),
    ("api", "wiring"),
    ("retrace", "wiring"),
    ("axes", "amounts"),
    ("axes", "recipe"),
    ("axes", "errors"),
    ("sweeping", "api"),
    ("sweeping", "destination"),
    ("sweeping", "comparing"),
    ("sweeping", "wiring"),
    ("explaining", "api"),
    ("explaining", "explanation"),
    ("explaining", "wiring"),
    ("metrics", "networks"),
    ("metrics", "objectives"),
    ("__main__", "cli"),
    ("cli.looking", "reports"),
    ("cli.making", "reports"),
    ("cli.making", "timelapse"),
    ("cli.explain", "exhibit"),
    ("cli", "studio"),
}

# Stricter than its floor: the only rooms of the house that it may import.
ONLY = {
    "tiling": {"geometry", "objectives", "scratch"},
    "solvers": {"geometry", "linesearch", "preconditioner", "recipe", "scratch"},
    "preconditioner": {"geometry", "scratch", "spectrum"},
    "spectrum": {"geometry"},
    "linesearch": set(),
}

DOORS = {room for room, floor in FLOORS.items() if floor == 4}
NOT_NAMES = {"utils", "util", "common", "helpers", "helper", "misc", "core", "manager"}
MAY_SPEAK = {"cli", "__main__"}
LONGEST_FILE, LONGEST_FUNCTION = 460, 80


def module_of(path: Path, root: Path = SOURCE) -> str:
    """The dotted name below the package; "" is the package itself."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.AST, module: str) -> set[str]:
    """Dotted names below the package that a module imports, wherever in its text, types included."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = ["impasto", *module.split(".")][: -node.level or None] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            found |= {f"{origin}.{name.name}" for name in node.names}
    return {
        name.removeprefix("impasto").removeprefix(".")
        for name in found
        if name.split(".")[0] == "impasto"
    }


def breaches(module: str, imported: set[str]) -> list[str]:
    """What a module imports and may not, each as one sentence."""
    room = module.split(".")[0]
    if not module:  # the package: it binds its public list, and nothing else knows it
        return [
            f"the package imports {name}"
            for name in imported
            if name.split(".")[0] in DOORS | {"engine"}
        ]
    if room not in FLOORS:
        return [
            f"{room} is not in the plan: add it to FLOORS in {Path(__file__).name}, on the floor "
            f"where it belongs"
        ]
    found = []
    for name in sorted(imported):
        other = name.split(".")[0]
        if other == room or name.startswith("__"):  # its own rooms; the package's version
            continue
        if other not in FLOORS:
            found.append(
                f"{module} imports {name}, which is in no room of the plan: add it to FLOORS, or "
                f"import the room"
            )
        elif room in DOORS and other == "engine":
            found.append(f"{module} imports {name}, but doors never import the engine")
        elif FLOORS[other] > FLOORS[room]:
            found.append(f"{module} imports {name}, which is a floor above it")
        elif FLOORS[other] == FLOORS[room] and not _neighbours(module, name):
            found.append(f"{module} imports {name}, which is on its own floor")
        elif room in ONLY and other not in ONLY[room]:
            found.append(f"{module} imports {name}, but it may know {sorted(ONLY[room])} alone")
    return found


def _neighbours(module: str, name: str) -> bool:
    """Whether the table lets a module import a name; a room in the table stands for all that is in
    it.
    """
    return any(module == who and f"{name}.".startswith(f"{whom}.") for who, whom in NEIGHBOURS)


def speech(tree: ast.AST) -> Iterator[int]:
    """Lines that print or end the interpreter."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in {
                "print",
                "exit",
                "quit",
                "sys.exit",
                "os._exit",
                "sys.stdout.write",
                "sys.stderr.write",
            }:
                yield node.lineno
        elif isinstance(node, ast.Name):
            if node.id == "SystemExit":
                yield node.lineno
        elif (
            isinstance(node, ast.ImportFrom)
            and node.module == "sys"
            and "exit" in {name.name for name in node.names}
        ):
            yield node.lineno


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
    """Lines that do something to the machine while a module is imported: what functions hold is not
    run then.
    """
    if isinstance(tree, ast.Lambda):
        return
    if isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef):
        at_once = [
            *tree.decorator_list,
            *tree.args.defaults,
            *(value for value in tree.args.kw_defaults if value),
        ]
        for node in at_once:
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


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: module_of(path) or "impasto")

# ---- the house as it stands ----------------------------------------------------------------------


@each_file
def test_nobody_imports_whom_they_may_not(path: Path):
    module = module_of(path)
    assert breaches(module, imports(parsed(path), module)) == []


@each_file
def test_only_the_command_line_prints_and_exits(path: Path):
    if module_of(path).split(".")[0] not in MAY_SPEAK:
        assert list(speech(parsed(path))) == []


@each_file
def test_an_import_does_nothing_to_the_machine(path: Path):
    assert list(effects(parsed(path))) == []


@each_file
def test_no_file_and_no_function_is_two_ideas(path: Path):
    assert len(path.read_text("utf-8").splitlines()) <= LONGEST_FILE
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno + 1 <= LONGEST_FUNCTION, node.name


@each_file
def test_rooms_are_named_for_what_they_hold(path: Path):
    assert not NOT_NAMES & set(module_of(path).split("."))


@each_file
def test_every_module_says_what_it_is(path: Path):
    text = path.read_text("utf-8")
    assert not text.strip() or ast.get_docstring(ast.parse(text))


LIGHT = [
    "",
    *(
        f".{room}"
        for room, floor in FLOORS.items()
        if floor == 0 and (SOURCE / f"{room}.py").exists()
    ),
]


def test_words_need_no_torch():
    """One interpreter for each, started together: what one imports must not hide what another does."""
    check = "import sys, impasto{0}; print(*{{'torch', 'numpy', 'PIL', 'skimage', 'rich'}} & set(sys.modules))"
    commands = {room: [sys.executable, "-c", check.format(room)] for room in LIGHT}
    running = {
        room: subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for room, command in commands.items()
    }
    said = {room: process.communicate(timeout=60)[0].strip() for room, process in running.items()}
    assert said == dict.fromkeys(LIGHT, "")


def test_the_public_list_is_sorted_and_every_name_on_it_is_there():
    listed = impasto.__all__
    assert listed == sorted(listed)
    assert len(listed) == len(set(listed)) <= 16
    for name in listed:
        assert getattr(impasto, name) is not None
    assert set(listed) <= set(dir(impasto))
    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        _ = impasto.nothing_of_that_name


# ---- the checks themselves -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "text", "breach"),
    [
        ("geometry", "import impasto.errors", "own floor"),
        ("recipe", "from impasto import networks", "a floor above"),
        ("recipe", "from impasto.geometry import Size", "own floor"),
        ("images", "from impasto.assets import fetch", "own floor"),
        ("images.reading", "def f():\n    from impasto import museum", "own floor"),
        ("networks.vgg", "from impasto import assets", "own floor"),
        ("networks.vgg", "from .. import assets", "own floor"),
        ("networks.vgg", "from ..assets import fetch", "own floor"),
        ("tiling", "from impasto.networks.features import Network", "own floor"),
        ("tiling", "from impasto.objectives.style import Style", "own floor"),
        ("tiling", "from impasto.recipe import Recipe", "may know"),
        ("solvers", "from impasto.tiling import value_and_gradient", "own floor"),
        ("solvers", "from impasto.tiling import Value", "own floor"),
        ("scratch", "from impasto.solvers import LBFGS", "own floor"),
        ("machine", "from impasto.networks.features import Network", "own floor"),
        ("machine", "from impasto.planning import speed", "a floor above"),
        ("wiring", "from impasto import api", "own floor"),
        ("wiring", "from impasto.cli.display import Display", "a floor above"),
        ("engine", "from impasto import planning", "own floor"),
        ("engine", "if TYPE_CHECKING:\n    from impasto.api import stylize", "a floor above"),
        ("cli", "from impasto.engine import iterate", "doors never"),
        ("reports", "from impasto.cli import main", "own floor"),
        ("attic", "import os", "add it to FLOORS"),
        ("engine", "from impasto import attic", "add it to FLOORS"),
        ("", "from impasto import engine", "the package imports"),
    ],
)
def test_a_breach_is_found(module: str, text: str, breach: str):
    found = breaches(module, imports(ast.parse(text), module))
    assert len(found) == 1
    assert breach in found[0]


@pytest.mark.parametrize(
    ("module", "text"),
    [
        (
            "engine",
            "import torch\nfrom impasto import images, solvers\nfrom impasto.networks.features "
            "import Network",
        ),
        (
            "networks.weights",
            "from impasto import assets\nfrom . import vgg\nfrom impasto.networks.vgg import cut",
        ),
        ("tiling", "from impasto.objectives.base import Stats\nfrom impasto.geometry import Grid"),
        ("tiling", "from impasto.scratch import Kept, Scratch"),
        ("solvers", "from impasto.scratch import InMemory"),
        ("machine", "from impasto import assets\nfrom impasto.networks.convolution import fastest"),
        (
            "planning",
            "from impasto.networks.features import Network\nfrom impasto.schedule import Plan",
        ),
        (
            "wiring",
            "from impasto import engine, machine, planning\nfrom impasto.runs import Checkpoint",
        ),
        ("api", "from impasto import wiring"),
        ("cli", "from impasto import __version__, api"),
        ("__main__", "from impasto.cli import main"),
        ("museum", "import impastorious"),
    ],
)
def test_what_is_allowed_is_no_breach(module: str, text: str):
    assert breaches(module, imports(ast.parse(text), module)) == []


@pytest.mark.parametrize(
    "text",
    [
        "print(1)",
        "def f():\n    print(1)",
        "sys.exit(1)",
        "raise SystemExit(2)",
        "from sys import exit",
        "os._exit(1)",
    ],
)
def test_speech_is_heard(text: str):
    assert list(speech(ast.parse(text)))


def test_other_printing_is_not_speech():
    assert not list(speech(ast.parse("console.print(1)\nprint_it = 3\nself.exit(2)")))


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
def test_effects_are_seen(text: str):
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
def test_what_waits_to_be_called_is_no_effect(text: str):
    assert not list(effects(ast.parse(text)))
