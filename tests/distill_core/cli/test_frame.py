"""The frame: commands on demand, three-line errors, exit codes, and a frozen set of flags."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable

import click
import pytest

import distill_core
from distill_core.cli import COMMANDS, main
from distill_core.cli.errors import Display, run_safely
from distill_core.cli.group import TRACEBACK, LazyGroup
from registry import ContractError, EnvironmentFault, InputError
from registry.errors import few_of
from tests.distill_core.cli.fakes import distill, process

# The public interface: a component adds options, never flags. Change it only on purpose.
FLAGS = {
    "run": "--algo --all --backbone --budget-bytes --config --dataset --device --dry-run --ipc "
    "--labeler --max-memory --minutes --on-divergence --orderer --out --overwrite --preset "
    "--procs --repr --resume --seed --snapshots --steps --yes -o",
    "evaluate": "--backbone --device --json --metrics --nets --protocol --split -o run",
    "compare": "--json --markdown --sort runs",
    "report": "--animate --out runs",
    "list": "--filter --json kind",
    "show": "--all --json kind name",
    "plugins": "--json",
    "presets": "--json name",
    "experts": "--algo --backbone --config --count --dataset --device --json --preset --seed -o",
    "bench": "--device --json --path --preset --quick",
    "sweep": "--cluster --cpus --dry-run --gpus --json --out --parallel --partition --report "
    "--time -o file",
    "doctor": "--clear-pictures --json",
    "completion": "shell",
    "export": "--exact-whitening --force --format --json --license --out --title run",
    "push": "--exact-whitening --license --private --title repository run",
    "cite": "--json run",
    "verify": "--evaluate --json -o run",
    "new-plugin": "--kind --out name",
    "order": "--compare --config --dataset --grid --json --orderer --out --preset -o",
}
HEAVY = ("torch", "numpy", "scipy", "sklearn", "timm", "open_clip", "matplotlib", "tensorboard")


def command(name: str) -> click.Command:
    found: click.Command = importlib.import_module(
        f"distill_core.cli.{name.replace('-', '_')}"
    ).command
    return found


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_set_of_flags_is_frozen(name: str) -> None:
    own = [parameter for parameter in command(name).params if parameter is not TRACEBACK]
    assert sorted(max(each.opts, key=len) for each in own) == FLAGS[name].split()


def test_every_command_has_frozen_flags() -> None:
    assert set(FLAGS) == set(COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_explains_itself_and_takes_traceback(name: str) -> None:
    result = distill(name, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: distill {name}")
    assert "--traceback" in result.stdout
    assert (command(name).help or "").strip()


def test_help_lists_every_command_in_order() -> None:
    text = distill("--help").stdout
    positions = [text.index(f"\n  {name} ") for name in COMMANDS]
    assert positions == sorted(positions)
    assert all(line in text for line in COMMANDS.values())
    assert distill().stdout == distill("-h").stdout == text


def test_flags_that_few_give_are_folded_and_counted() -> None:
    few = distill("run", "--help").stdout
    assert "--procs" not in few
    assert "--ipc" in few
    assert few.endswith(
        "\n`distill run --help --all` also shows 4 options that are rarely needed.\n"
    )
    whole = distill("run", "--help", "--all").stdout
    assert distill("run", "--all").stdout == whole
    assert all(each in whole for each in ("--procs", "--max-memory", "--ipc"))
    assert "rarely needed" not in whole


def test_version() -> None:
    assert distill("--version").stdout == f"distill {distill_core.__version__}\n"


def test_an_unknown_command() -> None:
    result = distill("lsit")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == (
        "no command named 'lsit'. Did you mean 'list'?\n"
        f"Expected one of: {few_of(sorted(COMMANDS), 'lsit')}.\n"
        "Next: `distill --help` says what each of them does.\n"
    )


def test_an_unknown_option() -> None:
    result = distill("run", "--labler", "soft")
    assert result.exit_code == 2
    what, expected, next_step = result.stderr.splitlines()
    assert what == "no option named '--labler'. Did you mean '--labeler'?"
    assert expected.startswith("Expected one of: --labeler, ")
    assert expected.endswith(" more.")
    assert next_step == "Next: `distill run --help` explains what it takes."


def test_an_unknown_option_before_the_command() -> None:
    result = distill("--trace", "list")
    assert result.exit_code == 2
    assert "Did you mean '--traceback'?" in result.stderr


def test_an_option_of_the_wrong_type() -> None:
    result = distill("run", "--steps", "many")
    assert result.exit_code == 2
    what, expected, next_step = result.stderr.splitlines()
    assert what == "invalid value for '--steps': 'many' is not a valid integer."
    assert expected.startswith("Expected --steps INTEGER: ")
    assert next_step == "Next: `distill run --help` explains what it takes."


def test_an_option_without_its_value() -> None:
    result = distill("run", "--steps")
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "option '--steps' requires an argument.",
        "Expected options as the command's --help shows them.",
        "Next: `distill COMMAND --help` explains what a command takes.",
    ]


def test_missing_and_superfluous_arguments() -> None:
    missing, too_many = distill("verify"), distill("list", "a", "b")
    assert missing.exit_code == too_many.exit_code == 2
    assert missing.stderr.splitlines() == [
        "missing argument 'RUN'.",
        "Expected `distill verify [OPTIONS] RUN`.",
        "Next: `distill verify --help` explains what it takes.",
    ]
    assert too_many.stderr.splitlines()[:2] == [
        "got unexpected extra argument (b).",
        "Expected `distill list [OPTIONS] [KIND]`.",
    ]


def raising(error: BaseException) -> Callable[[], object]:
    def call() -> object:
        raise error

    return call


def test_a_mistake_of_the_user(capsys: pytest.CaptureFixture[str]) -> None:
    error = InputError("a is b.", expected="a is c.", next="write c.")
    assert run_safely(raising(error), Display()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "a is b.\nExpected a is c.\nNext: write c.\n"


def test_a_fault_of_the_machine(capsys: pytest.CaptureFixture[str]) -> None:
    error = EnvironmentFault("the disk is full.", expected="room.", next="make some.")
    assert run_safely(raising(error), Display()) == 1
    assert capsys.readouterr().err == "the disk is full.\nExpected room.\nNext: make some.\n"


def test_an_error_of_the_system(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_safely(raising(OSError(28, "No space left on device", "/x")), Display()) == 1
    what, expected, next_step = capsys.readouterr().err.splitlines()
    assert what == (
        "the system refused something: OSError: [Errno 28] No space left on device: '/x'."
    )
    assert expected.startswith("Expected room")
    assert "--traceback" in next_step


def test_a_plugin_that_raises_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    error = KeyError("boiler")
    error.add_note("raised by orderer 'spiral' of plugin spiral (distill-spiral 1.2)")
    assert run_safely(raising(error), Display()) == 1
    assert capsys.readouterr().err.splitlines() == [
        "orderer 'spiral' of plugin spiral (distill-spiral 1.2) raised KeyError: 'boiler'.",
        "Expected no error from a component; `distill_core.testing` checks the contract.",
        "Next: use --traceback to see where it happened, and tell the author of the plugin.",
    ]


def test_a_fault_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_safely(raising(RuntimeError("first line\nsecond line")), Display()) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "distill itself failed with RuntimeError: first line."
    assert len(lines) == 3
    assert "report it" in lines[2]


def test_a_broken_contract_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_safely(raising(ContractError("orderer 'x' made a str.")), Display()) == 2
    assert capsys.readouterr().err == "orderer 'x' made a str.\n"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_an_interruption(error: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_safely(raising(error), Display()) == 130
    assert capsys.readouterr().err == "Interrupted.\n"


def test_exit_codes_of_what_returns() -> None:
    assert run_safely(lambda: None, Display()) == 0
    assert run_safely(lambda: 130, Display()) == 130


def test_the_traceback_is_shown_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    run_safely(raising(InputError("a is b.")), Display())
    assert "Traceback" not in capsys.readouterr().err
    run_safely(raising(InputError("a is b.")), Display(traceback=True))
    text = capsys.readouterr().err
    assert text.startswith("Traceback (most recent call last):")
    assert text.endswith("\na is b.\n")


@pytest.mark.parametrize("arguments", [("--traceback", "list", "x"), ("list", "--traceback", "x")])
def test_traceback_before_and_after_the_command(arguments: tuple[str, ...]) -> None:
    result = distill(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("Traceback (most recent call last):")
    assert "no kind of component named 'x'." in result.stderr


def test_one_traceback_does_not_lead_to_the_next() -> None:
    distill("--traceback", "list", "x")
    assert "Traceback" not in distill("list", "x").stderr


def test_commands_are_imported_only_when_used() -> None:
    group = LazyGroup("group", table={"gone": "Not there."}, package="no_such_package")
    assert group.list_commands(click.Context(group)) == ["gone"]
    assert "Not there." in group.get_help(click.Context(group))
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        group.get_command(click.Context(group), "gone")
    assert group.get_command(click.Context(group), "other") is None


def test_the_group_is_what_the_console_script_names() -> None:
    assert isinstance(main, LazyGroup)
    assert main.table is COMMANDS


# What a command imports shows only in a process of its own.
TELL = (
    "import json, sys\n"
    "from distill_core.cli import main\n"
    "try:\n"
    "    main(sys.argv[1:])\n"
    "except SystemExit as left:\n"
    "    code = left.code\n"
    "print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)\n"
)


@pytest.mark.parametrize(
    ("arguments", "code", "light"),
    [
        ("--help", 0, ("pydantic", "rich")),
        ("--version", 0, ("pydantic", "rich")),
        ("lsit", 2, ("pydantic", "rich")),
        ("list", 0, ("pydantic", "rich")),
        ("list orderer", 0, ("pydantic", "rich")),
        ("list backbones --filter resnet*", 0, ("rich",)),
        ("list ordrer", 2, ("pydantic", "rich")),
        ("plugins", 0, ("pydantic", "rich")),
        ("presets", 0, ("pydantic", "rich")),
        ("presets quick-digits", 0, ("pydantic", "rich")),
        ("completion bash", 0, ("pydantic", "rich")),
        ("run --labler", 2, ("pydantic", "rich")),
        ("run --preset quick-digits -o algo.windw=3", 2, ()),
        ("run --preset quick-digits -o repr.sise=3", 2, ()),
        ("evaluate no-such-run", 2, ()),
        ("compare no-such-run", 2, ()),
        ("report no-such-run", 2, ()),
        ("verify no-such-run", 2, ()),
        ("cite no-such-run", 2, ()),
        ("cite gallery:no-such-entry", 2, ()),
        ("export no-such-run --format tensors", 2, ()),
        ("push no-such-run user/name", 2, ()),
        ("order --orderer no-such-orderer", 2, ()),
        ("order --grid 3by4", 2, ()),
        ("bench --preset no-such-preset", 2, ("pydantic", "rich")),
        ("sweep no-such-file.toml --dry-run", 2, ()),
    ],
)
def test_what_needs_no_work_imports_nothing_heavy(
    arguments: str, code: int, light: tuple[str, ...]
) -> None:
    done = process("-c", TELL, *arguments.split(), DISTILL_LOAD_PLUGINS="")
    found_code, modules = json.loads(done.stderr.splitlines()[-1])
    assert found_code == code
    assert [name for name in (*HEAVY, *light) if name in modules] == []


def test_help_of_every_command_imports_nothing_heavy() -> None:
    code = "import contextlib, sys\nfrom distill_core.cli import COMMANDS, main\n"
    code += "for name in COMMANDS:\n    with contextlib.suppress(SystemExit):\n"
    code += "        main([name, '--help'])\n"
    code += f"print([name for name in {(*HEAVY, 'pydantic', 'rich')} if name in sys.modules])"
    lines = process("-c", code).stdout.splitlines()
    assert sum(line.startswith("Usage: distill ") for line in lines) == len(COMMANDS)
    assert lines[-1] == "[]"


def test_options_of_our_own_components_import_nothing_heavy() -> None:
    code = "import sys\nfrom distill_core.config.discovery import discover\n"
    code += "from distill_core.hookspecs import KINDS\n"
    code += "plugins, count = discover(only=['builtin', 'podd']), 0\n"
    code += "for kind in KINDS:\n    for name in plugins[kind.name]:\n"
    code += "        plugins[kind.name][name].resolve_options()\n"
    code += "        count += 1\n"
    code += f"print([count > 20, *(name for name in {HEAVY} if name in sys.modules)])"
    assert process("-c", code).stdout == "[True]\n"


def test_python_m_is_the_same_command() -> None:
    done = process("-m", "distill_core", "lsit")
    assert done.returncode == 2
    assert "Did you mean 'list'?" in done.stderr
    assert process("-m", "distill_core", "--help").stdout == distill("--help").stdout
