"""The command line: `python -m analysis run STUDY`, `verdict RUN`; a user's mistake is one line and exit code 2."""

import errno
import sys
import time
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import Progress

from analysis import dry_run as looking
from analysis import report, run
from analysis.amounts import parse_bytes
from analysis.cells import Cell, Plan
from analysis.doctor import show_model
from analysis.export import export
from analysis.latency import measure_latency
from analysis.paper import Source, figure_names
from analysis.paper_files import write_paper
from analysis.paper_style import VENUES, formats_of, style_of
from analysis.parting import compare
from analysis.progress import Bar
from analysis.reading import read_latency, read_verdict
from analysis.repair_report import show_repairs
from analysis.resolution import Resolution
from analysis.scopes import MAIN
from analysis.store import Store, open_root
from analysis.study import load_study, shipped_studies
from analysis.task_report import show_tasks
from data.errors import InputError
from data.paths import shown

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Is a compressed model's knowledge gone, or only displaced?",
)
OutFolder = Annotated[Path, typer.Option("--out", help="folder that holds all runs")]
# A table of intervals is unreadable in eighty columns: where the output is no terminal, it gets what it needs.
console = Console() if sys.stdout.isatty() else Console(width=report.WIDEST)


@app.command("run")
def run_command(
    study: Annotated[str, typer.Argument(help="a YAML file, or a shipped study")],
    out: OutFolder = Path("runs"),
    changes: Annotated[list[str] | None, typer.Option("--set", help="key=value, dotted keys, YAML values")] = None,
    engine: Annotated[str, typer.Option(help="where cells run: local, or ray")] = "local",
    address: Annotated[str | None, typer.Option(help="of a Ray cluster; RAY_ADDRESS, or a new one")] = None,
    fresh: Annotated[bool, typer.Option("--fresh/--resume", help="compute everything anew")] = False,
    memory: Annotated[str | None, typer.Option(help="bound on what all workers hold together, such as 8GB")] = None,
    latency: Annotated[bool, typer.Option("--latency", help="time its repairs too, where nothing has yet")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="list the cells and what they could show")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="with --dry-run: what is found, as JSON")] = False,
) -> None:
    """Run a study, or go on with it, and print what it found."""
    if dry_run:
        _show(looking.dry_run(study, changes or [], out), as_json)
        return
    if as_json:
        raise InputError("--json: what is found before a run; add --dry-run, or read resolved.json beside the run")
    described = load_study(study, changes or [])
    shipped = study in shipped_studies() and not changes
    budget = None if memory is None else parse_bytes(memory)
    bar = Bar()

    def start(plan: Plan, todo: list[Cell]) -> None:
        bar.start(plan.study.name, len(plan.cells) - len(todo), len(todo))

    started = time.perf_counter()
    try:
        folder = run.run(
            described,
            out=out,
            shipped=shipped,
            fresh=fresh,
            engine=engine,
            address=address,
            memory=budget,
            on_start=start,
            on_cell=bar.cell,
            on_note=bar.note,
        )
    finally:
        bar.stop()
    if latency and read_latency(folder) is None:
        console.print("timing the repairs ...", markup=False)
        measure_latency(folder)
    report.show(console, folder)
    told = f"{time.perf_counter() - started:.0f} s; tables, verdict and manifest in {folder}"
    console.print(told, markup=False, soft_wrap=True)  # a folder broken over two lines could not be copied


@app.command("verdict")
def verdict_command(
    name: Annotated[str, typer.Argument(metavar="RUN", help="a run's name or folder")],
    out: OutFolder = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="the stored verdict as it is")] = False,
) -> None:
    """Say what a finished run's evidence licenses, comparison by comparison."""
    folder = run.open_run(name, out)
    verdict = read_verdict(folder)
    if as_json:
        typer.echo((folder / "verdict.json").read_text(), nl=False)
    else:
        report.show_verdict(console, verdict)


@app.command("repairs")
def repairs_command(
    name: Annotated[str, typer.Argument(metavar="RUN", help="a run's name or folder")],
    out: OutFolder = Path("runs"),
    latency: Annotated[bool, typer.Option("--latency", help="time them first: minutes, on a machine at rest")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="as Markdown, for the docs")] = False,
) -> None:
    """Print every repair of a finished run, and what every choice among prompts was worth."""
    wide = Console(width=240) if not sys.stdout.isatty() else console
    folder = run.open_run(name, out)
    if latency:
        measure_latency(folder)
    show_repairs(wide, folder, markdown=markdown)


@app.command("figures")
def figures_command(
    name: Annotated[str, typer.Argument(metavar="RUN", help="a run's name or folder")],
    out: OutFolder = Path("runs"),
    formats: Annotated[str, typer.Option("--format", help="of pdf, svg, png, html; with commas")] = "pdf,html",
    width: Annotated[str, typer.Option(help=f"inches, or a venue: {', '.join(VENUES)}")] = "neurips",
    font_size: Annotated[float, typer.Option(help="height of the text in points")] = 8.0,
    only: Annotated[str, typer.Option(help="names of figures, with commas; all unless given")] = "",
) -> None:
    """Write every figure of a run, each with its CSV, and its tables in LaTeX and Markdown."""
    kinds, style = formats_of(formats), style_of(width, font_size)
    asked = figure_names(only)
    started = time.perf_counter()
    written = write_paper(Source(run.open_run(name, out)), kinds, style, asked)
    for figure, reason in written.left_out.items():
        console.print(f"left out: {figure}: {reason}", markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"{time.perf_counter() - started:.0f} s; {len(written.figures)} figures and {len(written.tables)} tables in "
        f"{written.folder}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


@app.command("compare")
def compare_command(
    name: Annotated[str, typer.Argument(metavar="RUN", help="a run's name or folder")],
    first: Annotated[str, typer.Argument(metavar="A", help="as spoken, such as dense")],
    second: Annotated[str, typer.Argument(metavar="B", help="as spoken, such as 'gptq-2bit + prompt-8'")],
    out: OutFolder = Path("runs"),
    scope: Annotated[str, typer.Option(help="main, ablations, or the name of a control")] = MAIN,
    group: Annotated[str, typer.Option(help="what the inside was read on; the first unless given")] = "",
) -> None:
    """Say at which layer two variants first part, and by how much against the floor."""
    said = compare(run.open_run(name, out), first, second, scope, group)
    console.print(said, markup=False, highlight=False, soft_wrap=True)


@app.command("tasks")
def tasks_command(
    name: Annotated[str, typer.Argument(metavar="RUN", help="a run's name or folder")],
    out: OutFolder = Path("runs"),
    markdown: Annotated[bool, typer.Option("--markdown", help="as Markdown, for the docs")] = False,
) -> None:
    """Print a finished run's results on standard tasks: scores, perplexity, and every paired comparison."""
    wide = Console(width=240) if not sys.stdout.isatty() else console
    show_tasks(wide, run.open_run(name, out), markdown=markdown)


@app.command("calibrate")
def calibrate_command(
    organisms: Annotated[int, typer.Option(min=1, help="independent organisms, each trained from nothing")] = 36,
    recipes: Annotated[str, typer.Option(help="comma-separated; see probes/known_truth.py")] = (
        "hard-null,locked,mixture-0.05,mixture-0.15,mixture-0.5"
    ),
    table: Annotated[Path, typer.Option(help="where the table is written")] = Path("data/calibration"),
    workers: Annotated[int | None, typer.Option(min=1, help="organisms at once; as many as cores unless told")] = None,
    add: Annotated[bool, typer.Option("--add", help="keep what the table has and judge what it lacks")] = False,
    out: OutFolder = Path("runs"),
) -> None:
    """Measure false positives, power and coverage on organisms of known truth; goes on where it stopped."""
    from analysis import calibration, calibration_table
    from analysis.allowance import cores
    from probes.known_truth import RECIPES

    chosen = tuple(recipes.split(","))
    if unknown := sorted(set(chosen) - set(RECIPES)):
        raise InputError(f"--recipes: there is no recipe {', '.join(unknown)}; there are {', '.join(RECIPES)}")
    store = Store(open_root(out).resolve())
    seeds = range(calibration.FIRST_SEED, calibration.FIRST_SEED + organisms)
    judged = calibration_table.read_rows(table) if add else []
    known = {(int(row["organism"]), str(row["recipe"])) for row in judged}
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("organisms", total=organisms)
        for rows in calibration.calibrate(store, seeds, chosen, workers=workers or cores(), judged=known):
            judged += rows
            lines = calibration_table.write_table(judged, table)
            progress.advance(task)
    for line in lines:
        console.print(line, markup=False)


@app.command("export")
def export_command(
    name: Annotated[str, typer.Argument(metavar="RUN", help="a run's name or folder")],
    variant: Annotated[str, typer.Argument(help="as spoken, such as 'dense + prefix-2'")],
    folder: Annotated[Path, typer.Argument(help="where to write it")],
    out: OutFolder = Path("runs"),
    scope: Annotated[str, typer.Option(help="main, ablations, or the name of a control")] = MAIN,
    replicate: Annotated[int | None, typer.Option(help="seed of the replicate; the first unless given")] = None,
) -> None:
    """Write a variant's prompt, prefix or adapter in the form of peft."""
    console.print(export(run.open_run(name, out), variant, folder, scope=scope, replicate=replicate), markup=False)


@app.command("gc")
def gc_command(
    out: OutFolder = Path("runs"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be freed, and remove nothing")] = False,
) -> None:
    """Free what no finished run needs: finish stopped runs first, since their cells go too."""
    from analysis.waste import Waste, find_waste, free_waste, size

    said = [time.perf_counter()]

    def step(done: int, total: int) -> None:
        if time.perf_counter() - said[0] > 2:
            said[0] = time.perf_counter()
            print(f"{done:,}/{total:,} cells", file=sys.stderr)  # noqa: T201

    def show(waste: Waste) -> None:
        console.print(waste.sentence, markup=False, highlight=False, soft_wrap=True)

    if dry_run:
        show(find_waste(out, step))
        return
    freed = free_waste(out, show, step)
    console.print(f"freed {size(freed.bytes)}", markup=False, highlight=False)


@app.command("doctor")
def doctor_command(
    model: Annotated[str | None, typer.Argument(help="a hub id, a folder, a .gguf file, or atlas")] = None,
    study: Annotated[str | None, typer.Option(help="look at a study instead: a YAML file, or a shipped one")] = None,
    dtype: Annotated[str, typer.Option()] = "float32",
    device: Annotated[str, typer.Option()] = "cpu",
    length: Annotated[int, typer.Option(min=1, help="tokens of a row, for shapes and costs")] = 64,
    batch: Annotated[int, typer.Option(min=1, help="rows of a batch, for shapes and costs")] = 8,
    memory: Annotated[str | None, typer.Option(help="refuse what would take more, such as 8GB")] = None,
    remote: Annotated[bool, typer.Option("--remote", help="ask nnsight's host for the model, too")] = False,
    changes: Annotated[list[str] | None, typer.Option("--set", help="with --study: key=value")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="what small files tell, as JSON; opens no model")] = False,
    out: OutFolder = Path("runs"),
) -> None:
    """Open a model and print its sites, shapes and modules, the parity floor of capture and what it costs."""
    if (model is None) == (study is None):
        raise InputError("doctor: name a model or a study: `doctor MODEL`, or `doctor --study STUDY`")
    if study is not None:
        _show(looking.dry_run(study, changes or [], out), as_json)
        return
    assert model is not None
    if as_json:
        _show(looking.look_at_model(model, dtype), as_json)
        return
    budget = None if memory is None else parse_bytes(memory)
    show_model(console, model, dtype, device, length=length, batch=batch, memory=budget, hosted=remote)


def _show(found: Resolution, as_json: bool) -> None:
    """Print what was found of a study or a model; what is refused ends the command."""
    if as_json:
        typer.echo(found.as_json)
    looking.accepted(found)
    if not as_json:
        console.print("\n".join(found.lines), markup=False)


def main() -> None:
    """Run the command line; what a user can mend is said in one line."""
    try:
        app()
    except InputError as error:
        _refuse(str(error))
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        _refuse(f"'{shown(str(error.filename))}' is too long for the name of a file: shorten it")


def _refuse(why: str) -> NoReturn:
    """Say in one line what a user can mend, and end."""
    print(f"error: {' '.join(why.split())}", file=sys.stderr)  # noqa: T201
    sys.exit(2)


if __name__ == "__main__":
    main()
