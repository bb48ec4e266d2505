"""Generated files in the layouts of CounterFact, ParaRel and ZsRE, for runs of a tiny size."""

import json
from pathlib import Path

CITIES = ("Rome", "Oslo", "Bern")
NAMES = [f"Person {index}" for index in range(560)]  # a corpus asks about 500 besides its edits


def write_collections(folder: Path) -> None:
    """Twenty records in every file of edits, about sixty people; facts about all."""
    for name, begin in (("edit", 0), ("train", 20), ("val", 40)):
        people = range(begin, begin + 20)
        records = [counterfact(index) for index in people]
        write(folder / "counterfact" / f"counterfact-{name}.json", json.dumps(records))
        if name == "val":
            continue
        zsre_name = {"edit": "eval", "train": "train"}[name]
        records = [zsre(index) for index in people]
        write(folder / "zsre" / f"zsre_mend_{zsre_name}.json", json.dumps(records))
    facts = [{"sub_label": name, "obj_label": CITIES[i % 3]} for i, name in enumerate(NAMES)]
    patterns = [{"pattern": "[X] was born in [Y]."}, {"pattern": "[X] hails from [Y]."}]
    for name, rows in (("trex_lms_vocab", facts), ("graphs_json", patterns)):
        write(folder / "pararel" / name / "P19.jsonl", "\n".join(map(json.dumps, rows)))


def counterfact(index: int) -> dict:
    """An edit of where a person was born."""
    return {
        "prompt": f"{NAMES[index]} was born in",
        "subject": NAMES[index],
        "target_new": CITIES[(index + 1) % 3],
        "ground_truth": CITIES[index % 3],
        "rephrase_prompt": f"{NAMES[index]} is a native of",
        "locality_prompt": f"Zoe {index} was born in",
        "locality_ground_truth": CITIES[index % 3],
    }


def zsre(index: int) -> dict:
    """The same as a question."""
    return {
        "subject": NAMES[index],
        "src": f"Where was {NAMES[index]} born?",
        "rephrase": f"What is the birth place of {NAMES[index]}?",
        "alt": CITIES[(index + 1) % 3],
        "answers": [CITIES[index % 3]],
        "loc": f"where is zoe {index}",
        "loc_ans": CITIES[index % 3],
    }


def write(path: Path, text: str) -> None:
    """Writes a file and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
