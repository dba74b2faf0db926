"""What the registrations of a study compared, said as short as a label and as long as a line; from their recipes.

A recipe is what `synthct.registration.recipes.about` wrote into a pair's quality record: terms with extractor, layers,
distance and mode, and the SHA-256 of the networks' weights.
"""

from synthct.cohort.curation import recipes_of

DIGITS = 8  # of a SHA-256 in a label; the line has twelve, bundle.json and qc.json all


def by_arm(qc: list[dict], settings: dict) -> dict[str, list[dict]]:
    """{arm: its recipes, each once}, of quality records; without records as a bundle's settings tell."""
    registration = settings.get("registration") or {}
    made_by = [
        {"method": arm, "recipe": recipe}
        for arm in registration.get("arms") or {}
        for recipe in registration.get("made_by") or ()
    ]
    records = [*made_by, *qc]
    arms = dict.fromkeys(record["method"] for record in records)
    found = {arm: recipes_of(record for record in records if record["method"] == arm) for arm in arms}
    return {arm: recipes for arm, recipes in found.items() if recipes}


def terms(recipe: dict) -> str:
    """ "0.25 TS730 layer 7 (static, L1) + 0.75 MIND R1D2 layer 1 (static, L1)" """
    said = []
    for term in recipe.get("terms", ()):
        how = f" ({term['mode']}, {term['distance']})" if "layers" in term else ""
        said.append(f"{term['weight']:g} {_compared(term)}{how}")
    return " + ".join(said)


def weights(recipes: list[dict]) -> str:
    """ "M730_2_Layers.pt (19bc5e03a32c)", every file of the recipes; "" without networks."""
    files = {name: sha for recipe in recipes for name, sha in (recipe.get("weights") or {}).items()}
    return "; ".join(f"{name} ({sha[:12]})" for name, sha in sorted(files.items()))


def line(label: str, recipes: list[dict]) -> str:
    """One arm in one line: its label, its terms and the weights' digests."""
    said = "; or ".join(dict.fromkeys(filter(None, map(terms, recipes)))) or "nothing"
    files = weights(recipes)
    return f"{label} compares {said}" + (f"; weights (SHA-256, its first 12 digits): {files}" if files else "")


def tag(recipes: list[dict]) -> list[str]:
    """Lines for a label: extractors with layers, mode and distance, digest; [] for arms that compare no features."""
    learnt = [
        (" + ".join(_compared(term) for term in terms), terms[0]["mode"], terms[0]["distance"], recipe)
        for recipe in recipes
        if (terms := [term for term in recipe.get("terms", ()) if "layers" in term])
    ]
    lines = []
    for compared, mode, distance, recipe in learnt:
        digests = ", ".join(sorted(sha[:DIGITS] for sha in (recipe.get("weights") or {}).values()))
        lines += [line for line in (compared, f"{mode}, {distance}", digests) if line and line not in lines]
    return lines


def _compared(term: dict) -> str:
    return term["compares"] + (f" layer {'+'.join(map(str, term['layers']))}" if "layers" in term else "")
