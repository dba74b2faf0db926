"""The report's registration: what each arm compares, quality before and after, and pictures."""

from synthct.report.blocks import Figure, Panels, Section, Table, Text
from synthct.report.context_sections import finite
from synthct.report.figures import pictures, plots
from synthct.report.inputs import Inputs
from synthct.study import compared as recipes
from synthct.study.arms import about, arm_name, arm_order, registers

PAIRS = 4  # registration pictures an arm: the worst two, the middle, the best
QC = (
    ("mutual_information", "mutual information (nats)", 3),
    ("mind_distance", "MIND distance", 4),
)


def registration(inputs: Inputs) -> Section | None:
    """QC numbers before and after, and pictures of the worst, the middle and the best pair of each arm."""
    if not inputs.qc and not inputs.previews:
        return None
    section = Section(
        "registration",
        "Registration",
        "The pairs before and after. Without known truth these numbers say how alike "
        "the images became, not how right the deformation is.",
    )
    arms = sorted({r["method"] for r in inputs.qc} | {method for method, _ in inputs.previews}, key=arm_order)
    section.blocks.append(_recipes(inputs.qc, arms))
    known = [
        (key, title, decimals) for key, title, decimals in QC if any(f"{key}_after" in record for record in inputs.qc)
    ]
    if known:
        section.blocks.append(_qc_table(inputs.qc, arms, known))
        section.blocks.append(_pairs_table(inputs))
        figures = []
        for key, title, _ in known:
            records = [r for r in inputs.qc if all(finite(r.get(f"{key}_{when}")) for when in ("before", "after"))]
            if records:
                figures.append(
                    Figure(
                        f"registration_{key}",
                        plots.registration_change(records, key, title),
                        f"{title} before and after registration, a line a patient",
                    )
                )
        section.blocks.append(Panels(figures, "Each line a patient: before, left, and after, right.", 3))
    figures = []
    for arm in [
        arm for arm in arms if registers(arm) or not about(arm)["engine"]
    ] or arms:  # without registration, after is before
        for patient in _examples(inputs, arm):
            figures.append(
                Figure(
                    f"registration_{arm}_{patient}",
                    pictures.registration_pair(pictures.load(inputs.previews[arm, patient])),
                    f"{patient} before and after {arm_name(arm)} registration",
                    f"{patient}, {arm_name(arm)}{_qc_words(inputs.qc, arm, patient)}",
                )
            )
    if figures:
        section.blocks.append(
            Text(
                "Grey: the image that is moved. Orange: edges of the image that stays. Per arm the two pairs that "
                "are least alike after registration come first."
            )
        )
        section.blocks.append(Panels(figures))
    section.blocks += _maps(inputs, [arm for arm in arms if registers(arm) is not False] or arms)
    return section


def _maps(inputs: Inputs, arms: list[str]) -> list[Text | Panels]:
    """The paper's figure 1: where the pairs differ before and after each registration, patient by patient."""
    figures = []
    for patient in _examples(inputs, arms[0]) if arms else ():
        loaded = [
            (arm_name(arm), pictures.load(inputs.previews[arm, patient]))
            for arm in arms
            if (arm, patient) in inputs.previews
        ]
        loaded = [(label, arrays) for label, arrays in loaded if "distance_after" in arrays]
        if loaded:
            figures.append(
                Figure(
                    f"registration_distance_{patient}",
                    pictures.distance_maps(loaded),
                    f"Local MIND distance of {patient} before and after each registration",
                    patient,
                )
            )
    said = (
        "Where the structure of a pair disagrees: local MIND distance (R2D2, at 3 mm) between the two images inside "
        "the mask, before and after each registration; bright is unlike. Above each its mean over three planes. An "
        "arm that minimises MIND has an advantage here."
    )
    return [Text(said), Panels(figures)] if figures else []


def _recipes(qc: list[dict], arms: list[str]) -> Table:
    """What each arm compared, with which networks, as its quality records say; else as the settings do."""
    moved = {"ct_to_image": "the CT", "image_to_ct": "the input", "": "–"}
    told, body = recipes.by_arm(qc, {}), []
    for arm in arms:
        found = told.get(arm, [])
        first = found[0] if found else about(arm)
        compared = dict.fromkeys(recipe["compares"] for recipe in found) or {about(arm)["compares"]: None}
        body.append(
            [
                arm_name(arm),
                arm,
                first["engine"] or "–",
                moved.get(first["direction"], "–") if registers(arm) else "–",
                "; or ".join(filter(None, compared)) or "–",
                "; ".join(dict.fromkeys(map(recipes.terms, found))) or "–",
                recipes.weights(found) or "–",
            ]
        )
    columns = ["registration", "arm", "engine", "deforms", "compares", "terms", "weights (SHA-256)"]
    return Table("What each registration compares", columns, body, 7)


def _qc_table(qc: list[dict], arms: list[str], known) -> Table:
    body = []
    for arm in arms:
        some = [record for record in qc if record["method"] == arm and "failed" not in record]
        line = [arm_name(arm), str(len(some))]
        for key, _, decimals in known:
            for when in ("before", "after"):
                values = [float(r[f"{key}_{when}"]) for r in some if finite(r.get(f"{key}_{when}"))]
                line.append(f"{sum(values) / len(values):.{decimals}f}" if values else "–")
        moved = [
            float(r["displacement_mm"]["mean"]) for r in some if finite((r.get("displacement_mm") or {}).get("mean"))
        ]
        folded = [float(r["folding_fraction"]) for r in some if finite(r.get("folding_fraction"))]
        line += [f"{sum(moved) / len(moved):.1f}" if moved else "–", str(sum(value > 0 for value in folded))]
        body.append(line)
    columns = [
        "registration",
        "n",
        *[f"{title} {when}" for _, title, _ in known for when in ("before", "after")],
        "mean displacement (mm)",
        "patients with folding",
    ]
    return Table("Means over patients", columns, body, 1, "registration.csv")


def _pairs_table(inputs: Inputs) -> Table:
    """Pair by pair: those that curation left out first, with the reason, then by how little better they match here than
    9 mm away."""
    reasons = {(entry["arm"], entry["patient"]): entry["reason"] for entry in inputs.excluded}
    lines = []
    for record in (one for one in inputs.qc if "failed" not in one):
        reason = reasons.get((record["method"], record["patient"]), "")
        told = [
            record.get("mind_distance_after"),
            record.get("mind_distance_worst_after"),
            record.get("mind_distance_moved_after"),
            record.get("bone_dice_after"),
            (record.get("displacement_mm") or {}).get("p95"),
        ]
        numbers = [float(value) if value is not None and finite(value) else None for value in told]
        alike = ["–" if v is None else f"{v:.{n}f}" for v, n in zip(numbers, (3, 3, 2, 2, 1), strict=True)]
        trust = (numbers[2] is None, -(numbers[2] or numbers[1] or numbers[0] or 0.0))  # a ratio is no distance
        row = [record["patient"], arm_name(record["method"]), *alike, _start_words(record) or "–", reason or "–"]
        lines.append((not reason, trust, row))
    body = [row for _, _, row in sorted(lines)]
    measures = ["MIND distance", "in its worst region", "over that 9 mm away", "bone Dice", "displacement p95 (mm)"]
    columns = ["patient", "registration", *measures, "rigid start", "left out because"]
    return Table("Pairs, the least trusted first", columns, body, 2, "registration.csv", folded=True)


def _start_words(record: dict) -> str:
    """What was found of a rigid move before the deformation: by how much, and what came of it; "" without a search.
    Also where the mirrored image matched better."""
    start = record.get("rigid_start") or {}
    if not finite(start.get("move_mm")):
        return ""
    move = f"{float(start['move_mm']):.1f} mm, "
    if start.get("taken"):
        words = f"{move}taken"
    elif start.get("better"):  # by an arm that begins where the images lie
        apart = start.get("apart_mm", 0.0)
        words = f"{move}would be better" + (f", ended {float(apart):.1f} mm off" if finite(apart) else "")
    else:
        words = move + ("no better" if finite(start.get("mind_change")) else "left to the deformation")
    words += _limbs_words(start)
    ratio = start.get("mirror_ratio", 0.0)
    if finite(ratio) and float(ratio) > 1:
        words += f"; mirrored {start.get('mirror', 'somehow')} it matches {float(ratio):.2f} times as well"
    return words


def _limbs_words(start: dict) -> str:
    """How far limbs are moved on their own, where some are better off so; "" where none is."""
    limbs = start.get("limbs") if start.get("limbs_joined") else None
    found = [one for one in limbs if isinstance(one, dict)] if isinstance(limbs, list) else []
    moves = [f"{float(one['move_mm']):.1f}" for one in found if one.get("better") and finite(one.get("move_mm"))]
    return f"; limbs on their own by {' and '.join(moves)} mm" if moves else ""


def _examples(inputs: Inputs, arm: str) -> list[str]:
    """Patients to show: the two with the largest MIND distance after registration, the middle one and the best."""
    distance = {
        r["patient"]: float(r["mind_distance_after"])
        for r in inputs.qc
        if r["method"] == arm and finite(r.get("mind_distance_after"))
    }
    names = sorted(
        (patient for method, patient in inputs.previews if method == arm),
        key=lambda name: (-distance.get(name, 0), name),
    )
    return names if len(names) <= PAIRS else [*names[:2], names[len(names) // 2], names[-1]]


def _qc_words(qc: list[dict], arm: str, patient: str) -> str:
    """What stands below the pictures of a pair."""
    words = ""
    for record in (one for one in qc if (one["method"], one["patient"]) == (arm, patient)):
        if finite(record.get("mutual_information_after")):
            words += (
                f": mutual information {float(record['mutual_information_before']):.3f} before, "
                f"{float(record['mutual_information_after']):.3f} after"
            )
        start = record.get("rigid_start") or {}
        if start.get("taken") and finite(start.get("move_mm")):
            words += f"; moved rigidly by {float(start['move_mm']):.1f} mm first{_limbs_words(start)}"
    return words
