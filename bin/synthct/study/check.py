"""Whether a study can be run as it is asked for: settings that resolve, a cohort that they suit, networks at hand."""

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from synthct.cohort import curation, folds
from synthct.cohort.folds import Patient
from synthct.core import arms, presets
from synthct.core.errors import InputError
from synthct.core.tables import read_table, read_text
from synthct.networks.terms import check_objective
from synthct.registration import consistency
from synthct.registration.recipes import recipe
from synthct.study.needs import needed, require
from synthct.training.schedule import check_length, check_norm, check_same_network

WITH_NETWORKS = ("registration", "training", "finetuning", "inference")  # sections that can name a network


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a study asks for, by the names of check.py's options; of the files the paths."""

    sheet: str | Path
    modality: str
    preset: str | None = None
    directory: str | Path = presets.PRESETS  # of the named presets
    bundle: str | None = None  # bundle.json of the model that predicts
    overrides: Iterable[str] = ()
    lists: Iterable[str] = ()
    exclude: Iterable[str] = ()
    registration: str | None = None
    segment: bool = False
    weights: str | None = None
    weights_files: str | None = None
    networks: bool = True
    plan: bool = True

    @property
    def changes(self) -> list[str]:
        """The overrides one by one."""
        return presets.changes(self.overrides)


def check(request: Request) -> tuple[dict, list[Patient]]:
    """The resolved settings of a study and the patients of its sheet, when it can be run with them.

    Raises `InputError` for settings that do not resolve and for a sheet that cannot be read; else one for all faults
    of the cohort and of the weights at once, since both take a user time to mend.
    """
    settings = settings_of(request)
    patients = folds.read_sheet(request.sheet)
    faults: list[str] = []
    if request.plan:
        with _kept(faults):
            check_plan(request, settings, patients)
        with _kept(faults):
            require_cts(request, settings)
        with _kept(faults):
            check_ranges(settings["preprocessing"], {patient.region for patient in patients})
    with _kept(faults):
        check_spelling(settings, {patient.region for patient in patients} - {""})
    for path in request.exclude:
        with _kept(faults):
            asked = request.registration.split(",") if request.registration else []
            curation.check_exclusions(path, [patient.name for patient in patients], asked)
    with _kept(faults):
        for name, region in itertools.product(_chosen(request, settings), {patient.region for patient in patients}):
            consistency.check(recipe(settings["registration"], name, region))
    if request.networks:
        with _kept(faults):
            require_networks(request, settings, {patient.region for patient in patients} - {""})
    if faults:
        raise InputError("; and ".join(faults))
    return settings, patients


def settings_of(request: Request) -> dict:
    """The settings that the request resolves to: a bundle's where one predicts, else those of its preset.

    Raises `InputError` for these and for arms, region groups, trainings, views and checkpoints that cannot be.
    """
    if request.bundle:
        settings = presets.of_bundle(request.bundle, request.changes, request.preset, request.directory)
    else:
        settings = presets.resolve(request.preset or "paper", request.modality, request.changes, request.directory)
        if request.registration:
            arms.named(settings["registration"], request.registration)
        folds.groups_of(settings["finetuning"]["groups"])
        check_training(settings)
    presets.checkpoints(settings["inference"]["checkpoint"])
    presets.views(settings["inference"]["flips"])
    return settings


def check_plan(request: Request, settings: dict, patients: list[Patient]):
    """`InputError` for a test or folds that cannot be drawn, and for exclusion lists that leave a fold nobody.

    Which arm a list is of is not known where there are several; then its rows of all arms alone are looked at.
    """
    given = folds.read_lists(request.lists)
    folds.plan(patients, given=given, **settings["folds"])
    lists = list(request.exclude)
    for path in lists:
        for arm in _chosen(request, settings) if len(lists) == 1 else [""]:
            left, _ = curation.read_verdicts(path, arm)
            try:
                folds.plan(patients, given=given, excluded=left, **settings["folds"])
            except InputError as fault:
                of = f" for {arm}" if arm else ""
                raise InputError(f"parameter --exclude, {Path(path).name}{of}: {fault}") from None


def check_ranges(section: dict, regions: set[str]):
    """`InputError` where the section ``preprocessing`` maps the CTs of `regions` to a network's range in two ways: one
    network learns from them all."""
    found = {region: presets.for_region(section, region)["ct_range"] for region in sorted(regions)}
    first = next(iter(found), "")
    for region, given in found.items():
        if given != found[first]:
            raise InputError(
                f"preprocessing.ct_range {given} for region {region}: {first or 'the others'} has {found[first]}, "
                "expected one for all regions"
            )


def check_spelling(settings: dict, regions: set[str]):
    """`InputError` for a region of the sheet that the settings know in other letters, small or capital: its own numbers
    and its fine-tuning would be passed over."""
    known = {
        region
        for group in folds.groups_of(settings.get("finetuning", {}).get("groups", "")).values()
        for region in group
    }
    known |= {region for section in presets.BY_REGION for region in presets.regions_in(settings.get(section, {}))}
    spelt = {region.lower(): region for region in sorted(known)}
    for region in sorted(regions - known):
        if other := spelt.get(region.lower()):
            raise InputError(f"sheet: region {region!r}, which the settings spell {other!r}; expected one spelling")


def check_training(settings: dict):
    """`InputError` for training or fine-tuning that would be refused once its cases are made, hours later."""
    base, over = (presets.for_region(settings[section], None) for section in ("training", "finetuning"))
    tuned = presets.merged(base, over)
    for chosen in (base, tuned):
        check_length(chosen)
        check_norm(chosen, chosen["batch"])  # of one process; with several, each has less
        check_objective(chosen)
    check_same_network(base, tuned)


def require_networks(request: Request, settings: dict, regions: set[str]):
    """`InputError` that names every network which the study needs for patients of `regions` and which is not there."""
    trains_or_predicts = request.registration or request.bundle
    steps = settings if trains_or_predicts else {"modality": request.modality}  # evaluation has no other network
    needs = needed(steps, _chosen(request, settings), segment=request.segment, regions=regions)
    names = read_text(request.weights_files, "weights files").splitlines() if request.weights_files else []
    require(needs, fetching(request), request.weights or "", names)


def fetching(request: Request) -> str:
    """The command that fetches the networks of a study.

    >>> fetching(Request(sheet="s.csv", modality="mr", overrides=["folds.seed=1;training.batch=8"], segment=True))
    "bin/weights.py fetch --preset paper --modality mr --segment --set 'training.batch=8'"
    """
    parts = ["bin/weights.py fetch --preset", request.preset or "paper", "--modality", request.modality]
    parts += ["--registration", request.registration] if request.registration else []
    parts += ["--segment"] if request.segment else []
    changes = [one.strip() for one in request.changes if one.split(".")[0].strip() in WITH_NETWORKS]
    return " ".join([*parts, *(f"--set '{one}'" for one in changes)])


def require_cts(request: Request, settings: dict):
    """`InputError` for patients without the CT of an arm that is asked for, in the column that its table names."""
    rows = read_table(request.sheet, "sheet")
    for arm in _chosen(request, settings):
        column = settings["registration"]["arms"][arm]["ct"]
        if without := [row["patient"] for row in rows if not row.get(column)]:
            told = ", ".join(without[:10]) + (" …" if len(without) > 10 else "")
            raise InputError(f"sheet {request.sheet}: {column} empty, which --registration {arm} needs: patient {told}")


def _chosen(request: Request, settings: dict) -> list[str]:
    """The arms that are asked for."""
    return arms.named(settings["registration"], request.registration) if request.registration else []


@contextlib.contextmanager
def _kept(faults: list[str]) -> Iterator[None]:
    try:
        yield
    except InputError as fault:
        faults.append(str(fault))
