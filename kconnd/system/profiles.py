from dataclasses import dataclass
from pathlib import Path
import yaml
from kconnd.core.profile import Profile


@dataclass
class S:
    profile: Profile
    file: Path
    line: int


@dataclass
class Loaded:
    profiles: dict
    faults: tuple


def load_profiles(folders):
    out = {}
    for f in folders:
        for p in sorted(Path(f).glob("*.yaml")):
            d = yaml.safe_load(p.read_text())
            for n, k in d["kernels"].items() if "kernels" in d else [(p.stem, d)]:
                out[n] = S(Profile(**{"name": n, **k}), p, 1)
    return Loaded(out, ())
