"""The documents say what the program says."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["commands", "config"])
def test_generated_pages_are_current(page: str) -> None:
    made = getattr(reference(), f"{page}_page")()
    assert (ROOT / "docs" / f"{page}.md").read_text() == made, "run: python docs/reference.py"


def test_every_default_on_the_page_of_settings_is_the_one_that_is_used() -> None:
    """Read from a config that nothing was set in, section by section: what people get who leave a key out."""
    import yaml

    from thermocancer.config import load_config

    used = load_config(environment={}).model_dump(mode="json", by_alias=True)
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]*)` \|", (ROOT / "docs" / "config.md").read_text(), re.MULTILINE)
    assert len(rows) > 200
    for key, shown in rows:
        value: object = used
        for part in key.split("."):
            assert isinstance(value, dict)
            value = value[part]
        read = shown if isinstance(value, str) else yaml.safe_load(shown)
        assert read == value, key


def commands_of(page: Path) -> list[str]:
    """The lines of a page's shell blocks that call the program."""
    blocks = re.findall(r"```(?:sh)?\n(.*?)```", page.read_text(), re.DOTALL)
    lines = [line for block in blocks for line in re.sub(r"\\\n\s*", "", block).splitlines()]
    return [line.strip() for line in lines if re.match(r"(THERMOCANCER_\w+=\S+ )*thermocancer ", line.strip())]


def readme_commands() -> list[str]:
    return commands_of(ROOT / "README.md")


def test_the_readme_shows_every_command() -> None:
    from typer.main import get_command

    from thermocancer.cli import register

    shown = {shlex.split(line.split("thermocancer ", 1)[1])[0] for line in readme_commands()}
    assert shown >= set(get_command(register()).commands)


PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_command_on_a_page_is_one(page: Path) -> None:
    """Command, options and settings, as the program itself reads them."""
    from click import ClickException, Context
    from typer.main import get_command

    from thermocancer.cli import register
    from thermocancer.config import load_config
    from thermocancer.errors import ConfigError

    program, unread = get_command(register()), list[str]()
    for line in commands_of(page):
        words = shlex.split(line.split("thermocancer ", 1)[1].split("#")[0], posix=True)
        cut = next((place for place, word in enumerate(words) if word in ("&&", "||", "<", ">", "|")), len(words))
        name, *rest = words[:cut]
        command = program.commands[name]
        if name == "config":
            name, *rest = rest
            command = command.commands[name]
        if "--version" in rest or rest[:1] == ["..."]:
            continue
        try:
            parsed = command.make_context(name, list(rest), parent=Context(program)).params
            settings = [each for each in parsed.get("assignments") or () if "..." not in each]
            load_config(assignments=settings, environment={})
        except (ClickException, ConfigError) as error:
            unread.append(f"{line}: {error}")
    assert unread == []


def test_every_page_stands_in_the_navigation_of_the_site() -> None:
    import yaml

    settings = (ROOT / "mkdocs.yml").read_text()
    listed = set(re.findall(r"[\w-]+\.md", str(yaml.safe_load(settings)["nav"])))
    assert {path.name for path in (ROOT / "docs").glob("*.md")} <= listed


def test_the_ci_script_finds_the_readmes_test_command() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    expression = re.search(r"sed -n '(.*?)' README.md", script)
    assert expression is not None
    found = subprocess.run(
        ["sed", "-n", expression.group(1), "README.md"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.strip()
    assert found.startswith("python3 -m venv")
    assert "pytest" in found
    assert "\n" not in found


EXAMPLES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in sorted((ROOT / "thermocancer").rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", EXAMPLES)
def test_doctests_hold(name: str) -> None:
    outcome = doctest.testmod(importlib.import_module(name))
    assert outcome.attempted > 0
    assert outcome.failed == 0


def test_python_m_is_the_same_program() -> None:
    done = subprocess.run([sys.executable, "-m", "thermocancer", "--help"], capture_output=True, text=True, check=True)
    assert "build-dataset" in done.stdout


def test_the_page_of_the_python_api_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every example in turn, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    outcome = doctest.testfile(str(ROOT / "docs" / "api.md"), module_relative=False)
    assert outcome.attempted > 20
    assert outcome.failed == 0


def test_the_python_api_is_light_and_all_there() -> None:
    """What the commands load costs nothing before a name is used; every name is one, and a wrong one is told."""
    code = (
        "import sys, thermocancer as tc\nassert 'pydantic' not in sys.modules and 'numpy' not in sys.modules\n"
        "assert {*tc.__all__} <= {*dir(tc)}\nassert all(callable(getattr(tc, n)) for n in tc.__all__)\n"
        "print([n for n in ('keras', 'matplotlib', 'sklearn', 'scipy', 'h5py') if n in sys.modules], hasattr(tc, 'no'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] False"


# --- deploy/: what cron, systemd and Docker are given -----------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home folder as docs/servers.md leaves it, where the program writes down how it was called."""
    program = tmp_path / "thermocancer" / "bin" / "thermocancer"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\necho "$THERMOCANCER_USER $*" >> "$HOME/calls"\nexit $(cat "$HOME/code")\n')
    program.chmod(0o755)
    (tmp_path / ".config").mkdir()
    (tmp_path / ".config" / "thermocancer.env").write_text("THERMOCANCER_USER=me\n")
    return tmp_path


@pytest.mark.parametrize(("code", "calls"), [(0, 2), (5, 2), (4, 1)])
def test_cron_s_lines_work_with_cron_s_own_environment(home: Path, code: int, calls: int) -> None:
    """``run`` follows a ``fetch`` that ended with 0 or 5, and no other."""
    lines = [line for line in (ROOT / "deploy" / "crontab").read_text().splitlines() if not line.startswith("#")]
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "LOGNAME": "me"}
    environment |= dict(line.split("=", 1) for line in lines if re.match(r"\w+=", line))
    first = next(line for line in lines if line[0].isdigit()).split(None, 5)[5]
    (home / "code").write_text(str(code))
    done = subprocess.run(
        [environment["SHELL"], "-c", first], env=environment, cwd="/", capture_output=True, check=False
    )
    assert (done.stderr, done.stdout) == (b"", b"")
    called = (home / "calls").read_text().splitlines()
    assert len(called) == calls
    assert called[0] == "me fetch -w study --quiet"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_units(home: Path) -> None:
    units = [str(ROOT / "deploy" / f"thermocancer.{kind}") for kind in ("service", "timer")]

    def verified() -> subprocess.CompletedProcess[str]:
        command = ["systemd-analyze", "--user", "--man=no", "verify", *units]
        return subprocess.run(
            command, env={"HOME": str(home), "XDG_RUNTIME_DIR": str(home)}, capture_output=True, text=True, check=False
        )

    sound = verified()
    assert (sound.returncode, sound.stderr) == (0, "")
    (home / "thermocancer" / "bin" / "thermocancer").unlink()
    assert "is not executable" in verified().stderr, "the check sees what it is to see"


def test_the_dockerfile_copies_what_is_there_and_its_lines_are_shell() -> None:
    lines = (ROOT / "deploy" / "Dockerfile").read_text().splitlines()
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "COPY":
            assert all((ROOT / name).exists() for name in rest.split()[:-1]), line
        if word == "RUN":
            subprocess.run(["sh", "-n", "-c", rest], check=True)
    assert {line.split()[0] for line in lines} <= {"#", "FROM", "RUN", "COPY", "USER", "WORKDIR", "ENTRYPOINT", "CMD"}


def test_what_is_cited_is_what_is_installed() -> None:
    import yaml

    import thermocancer

    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == thermocancer.__version__


def test_a_shipped_config_goes_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from thermocancer.config import load_config
    from thermocancer.errors import ConfigError

    monkeypatch.chdir(tmp_path)
    (tmp_path / "replica").mkdir()  # the workspace of that config's own name
    assert load_config([Path("replica")]).fuse.name == "replica"
    assert load_config([Path("quickstart")]).fuse.name == "svm5"
    with pytest.raises(ConfigError):
        load_config([Path("nosuch")])
    (tmp_path / "quickstart").write_text("seed: 77\n")
    assert load_config([Path("quickstart")]).seed == 77, "a file of one's own comes first"
