"""`ecoalign view` and `ecoalign show`: a run from its trace, as a page and in the terminal."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from ecoalign.cli._options import Json, Quiet
from ecoalign.cli._text import counted, print_json, rich_console, say, tell
from ecoalign.errors import EcoAlignError, InputError

if TYPE_CHECKING:
    from rich.text import Text

    from ecoalign.trace import Story
    from ecoalign.view import TreeLine

EXITS = (
    "Exit codes: 0 written, or stopped by a signal while serving; 2 bad usage, no trace, an image "
    "of another run, or a file that is not ours would be replaced."
)

_Trace = Annotated[Path, Argument(help="A file that --trace has written.")]


class Theme(StrEnum):
    """The colours of a drawing."""

    LIGHT = "light"
    DARK = "dark"
    AUTO = "auto"


class Format(StrEnum):
    """What `show` prints."""

    TREE = "tree"
    MERMAID = "mermaid"
    DOT = "dot"
    JSON = "json"


def view(
    traces: Annotated[
        list[Path],
        Argument(help="Files that --trace has written; several runs stand side by side."),
    ],
    images: Annotated[
        list[Path] | None,
        Option(
            "--image",
            "-i",
            help="An image of the run, to be shown with the regions that were looked at; may be "
            "repeated. A trace has no images in it.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        Option("--out", "-o", help="The page; by default beside the trace, run.jsonl: run.html."),
    ] = None,
    svg: Annotated[
        Path | None,
        Option(help="Draw one run into this SVG file, in place of a page."),
    ] = None,
    theme: Annotated[Theme, Option(help="The colours of the SVG file.")] = Theme.AUTO,
    open_page: Annotated[bool, Option("--open", help="Open the page in the browser.")] = False,
    serve: Annotated[
        bool,
        Option("--serve", help="Serve the page on this machine and follow runs that still go."),
    ] = False,
    port: Annotated[
        int,
        Option(help="With --serve: the port on 127.0.0.1; 0 takes a free one.", min=0, max=65535),
    ] = 0,
    force: Annotated[bool, Option("--force", help="Replace a file that is not ours, too.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Draw the search of a run: one HTML file that needs no network and no server.

    The graph of thoughts with safety, utility and cost, the winning path, what was pruned and why;
    a slider that replays the run event by event; where the budget went. The page shows all that
    the trace holds, also text that was judged unsafe. Its path is printed on standard output.

    [bold]Examples[/bold]

    ecoalign ask examples/signs.png "What is the sum of the two numbers?" --trace run.jsonl

    ecoalign view run.jsonl --image examples/signs.png --open

    ecoalign view base.jsonl run.jsonl -o both.html          two runs, side by side

    ecoalign view run.jsonl --serve --open          follows a run that is still going
    """
    if serve:
        if out or svg:
            raise InputError("--serve writes no file: leave out --out and --svg, or --serve")
        _serve(traces, images or (), port, open_page=open_page, as_json=as_json, quiet=quiet)
        return
    if port:
        raise InputError("--port goes with --serve")
    from ecoalign.view import page, pictures

    stories = [load_story(path) for path in traces]
    bodies = [story.to_json() for story in stories]
    shown = pictures(images or (), bodies)
    kept = {path.resolve() for path in (*traces, *(images or ()))}
    made: dict[str, object] = {}
    files: list[Path] = []
    if svg is not None:
        text = _picture(stories, traces, images or (), shown, svg, theme)
        _write(svg, text, _is_own_svg, kept, force=force)
        made["svg"] = _told(svg, text)
        files.append(svg)
    if svg is None or out is not None:
        target = out or traces[0].with_suffix(".html")
        text = page(bodies, images=shown)
        from ecoalign.view import is_own_page

        _write(target, text, is_own_page, kept, force=force)
        made["html"] = _told(target, text)
        files.insert(0, target)
    made["thoughts"] = [len(story.nodes) for story in stories]
    if as_json:
        print_json(made)
    else:
        for path in files:
            if path.is_file():  # what went into a pipe, such as /dev/stdout, is not spoilt
                tell(str(path))
    if not quiet and not as_json:
        _comment(stories, made, pictured=bool(shown))
    if open_page and not webbrowser.open(files[0].resolve().as_uri()):
        say("no browser could be opened: open the file yourself")


def _told(path: Path, text: str) -> dict[str, object]:
    return {"path": str(path), "bytes": len(text.encode("utf-8", "replace"))}


def _comment(stories: Sequence[Story], made: Mapping[str, object], *, pictured: bool) -> None:
    sizes = [
        f"{one['bytes'] / 1000:,.0f} KB"
        for one in made.values()
        if isinstance(one, dict) and isinstance(one["bytes"], int)
    ]
    thoughts = sum(len(story.nodes) for story in stories)
    say(
        f"{', '.join(sizes)}: {counted(len(stories), 'run')}, {counted(thoughts, 'thought')}; it "
        "holds all that the trace holds, also what was judged unsafe"
    )
    if not pictured and any(story.run.get("images") for story in stories):
        say("note: a trace has no images in it; --image FILE shows where in them it looked")
    if any(not story.finished for story in stories):
        say("note: a run is not finished in its trace; --serve follows one that still goes")


def load_story(path: Path) -> Story:
    """The story of a trace file, of a run that has ended or still goes.

    Raises:
        InputError: it is no trace, or holds no event yet.
    """
    from ecoalign.trace import Story, read_trace
    from ecoalign.trace.events import RunStarted

    events = read_trace(path)
    if not events:
        raise InputError(f"{path} holds no event of a run (a trace is what --trace writes)")
    if not isinstance(events[0], RunStarted):
        raise InputError(f"{path} is not a trace: it does not begin with the start of a run")
    return Story.of(events)


def _write(
    path: Path, text: str, ours: Callable[[str], bool], kept: set[Path], *, force: bool
) -> None:
    """Write a file as a whole, in place of nothing but a file of ours.

    Raises:
        InputError: it cannot be written, or would replace another file.
    """
    if path.resolve() in kept:
        raise InputError(f"{path} is what is to be drawn: name another file with --out or --svg")
    try:
        if path.is_dir():
            raise InputError(f"{path} is a directory: name a file")
        if path.exists() and not path.is_file():  # a pipe, such as /dev/stdout
            path.write_text(text, encoding="utf-8", errors="replace", newline="\n")
            return
        if path.exists() and not force:
            with path.open(encoding="utf-8", errors="replace") as file:
                head = file.read(2000)
            if head and not ours(head):
                raise InputError(
                    f"{path} exists and was not made by `ecoalign view`: name another file, or "
                    "replace it with --force"
                )
        where = path.resolve().parent
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", errors="replace", newline="\n", dir=where, delete=False
        ) as file:
            try:
                file.write(text)
                file.close()
                # As any new file of this user, and not as a temporary one.
                mask = os.umask(0)
                os.umask(mask)
                os.chmod(file.name, 0o666 & ~mask)
                os.replace(file.name, path.resolve())
            except BaseException:
                file.close()
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None


def _is_own_svg(head: str) -> bool:
    return head.startswith('<svg xmlns="http://www.w3.org/2000/svg" id="eco-')


def _picture(
    stories: Sequence[Story],
    traces: Sequence[Path],
    images: Sequence[Path],
    shown: Mapping[str, str],
    svg: Path,
    theme: Theme,
) -> str:
    from ecoalign.trace import drawing

    if len(stories) > 1:
        raise InputError("--svg draws one run: give one trace")
    view = ["ecoalign", "view", str(traces[0])]
    for image in images:
        view += ["--image", str(image)]
    view += ["--svg", str(svg), "--theme", theme.value]
    note = f"{asked(stories[0], images, traces[0])} && {shlex.join(view)}"
    return drawing(stories[0], theme=theme.value, images=shown, note=note)


def asked(story: Story, images: Sequence[Path], trace: Path) -> str:
    """The command that asks the same again: the question, and what is not as by default."""
    from ecoalign.settings import Settings

    run = story.run
    names = [str(image) for image in images] or ["IMAGE"] * len(run["images"])
    words = ["ecoalign", "ask", *names, run["question"]]
    usual: Mapping[str, object] = {}
    # A trace may be of a version that had other settings: then none of them is told.
    try:
        usual = Settings.load(
            run["preset"], env={}, model=run["settings"].get("model", "embedded")
        ).to_json()
    except EcoAlignError:
        usual = {}
    if run["preset"] != "default":
        words += ["--preset", run["preset"]]
    for name, value in run["settings"].items():
        if name != "preset" and name in usual and usual[name] != value:
            said = str(value).lower() if isinstance(value, bool) else str(value)
            words += ["--set", f"{name}={said}"]
    return shlex.join([*words, "--trace", str(trace)])


def _serve(
    traces: Sequence[Path],
    images: Sequence[Path],
    port: int,
    *,
    open_page: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    import asyncio

    from ecoalign.cli._play import open_privately
    from ecoalign.query import Picture
    from ecoalign.view import data_uri, follow

    # A run that has not begun has not said which images it has: they are found by their digests.
    loaded = [Picture.load(path) for path in images]
    shown = {picture.sha256: data_uri(picture) for picture in loaded}
    with ExitStack() as stack:

        def ready(address: str) -> None:
            if as_json:
                print_json({"url": address, "pid": os.getpid()})
            else:
                tell(address)
            if not quiet:
                say("this machine only; Ctrl-C ends it")
            if open_page:
                open_privately(address, stack)

        asyncio.run(follow(list(traces), shown, "127.0.0.1", port, ready))


def show(
    trace: _Trace,
    form: Annotated[
        Format,
        Option("--format", "-f", help="tree; mermaid, for Markdown; dot, for Graphviz; or json."),
    ] = Format.TREE,
    as_json: Json = False,
) -> None:
    """Print the graph of a run: each thought with its scores, what became of it, and the winner.

    [bold]Examples[/bold]

    ecoalign show run.jsonl

    ecoalign show run.jsonl --format dot | dot -Tsvg > run.svg

    ecoalign show run.jsonl --json | jq '.nodes[] | select(.marks | index("pruned")) | .text'
    """
    from ecoalign.view import graphviz, mermaid, state

    story = load_story(trace)
    if as_json or form is Format.JSON:
        print_json(state(story))
    elif form is Format.MERMAID:
        tell(mermaid(story).rstrip("\n"))
    elif form is Format.DOT:
        tell(graphviz(story).rstrip("\n"))
    else:
        _print_tree(story)


def _print_tree(story: Story) -> None:
    from ecoalign._text import harmless, short
    from ecoalign.view import tree

    run, result, gauges = story.run, story.result, story.gauges
    tell(f"{short(run['question'], 400)}")
    if result is None:
        tell(f"not finished: {gauges.doing}")
    elif result["error"]:
        tell(f"failed: {harmless(result['error'])}")
    else:
        tell(f"{'refused' if result['refused'] else 'answer'}: {harmless(result['answer'])}")
    scores = ""
    if result is not None and result["safety"] is not None:
        scores = f"safety {result['safety']:+.2f}, utility {result['utility'] or 0:.2f}; "
    money = "" if not gauges.usd else f", ${gauges.usd:.4f}"
    limit = run["budget"].get("tokens")
    tell(
        f"{run['method']} with {run['model']}: {scores}{gauges.tokens:,}"
        f"{f' of {limit:,}' if limit else ''} tokens{money}, {gauges.seconds:.1f} s, "
        f"{gauges.calls} calls, {gauges.in_line} in line"
    )
    if story.nodes:
        tell("")
    console = rich_console()
    for line in tree(story, 72 if sys.stdout.isatty() else 200):
        if sys.stdout.isatty():
            console.print(_styled(line), soft_wrap=False)
        else:
            marks = f"  [{line.marks}]" if line.marks else ""
            star = "*" if "path" in line.node.marks else " "
            tell(f"{star} {line.branch}{_name(line)} {line.text}  ({line.scores}){marks}")
    if story.nodes and not sys.stdout.isatty():
        tell("")
        tell("* on the winning path" if story.finished else "* on the strongest path so far")


def _name(line: TreeLine) -> str:
    return f"{line.node.id} {line.node.kind}"


def _styled(line: TreeLine) -> Text:
    """A line for a terminal: colour says what words and outlines say, too."""
    from rich.text import Text

    from ecoalign.trace import look

    node = line.node
    gone = "pruned" in node.marks or "merged" in node.marks
    weight = "bold" if "path" in node.marks else "dim" if gone else ""
    # A terminal has few colours, and orange is none of them that all have.
    shade = look.shade(node.safety)
    tint = "" if node.safety is None else "red" if shade < 3 else "blue" if shade > 3 else ""
    return Text.assemble(
        (line.branch, "dim"),
        (_name(line), " ".join(filter(None, [weight, "cyan"]))),
        " ",
        (line.text, weight),
        "  ",
        (line.scores, " ".join(filter(None, [weight or "dim", tint]))),
        (f"  {line.marks}" if line.marks else "", "bold" if "path" in node.marks else "italic"),
        overflow="fold",
    )
