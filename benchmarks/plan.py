"""Images per second of a training under each plan, what `vaenb.plan` chooses, and what that costs.

    python benchmarks/plan.py                        # every backend that is installed
    python benchmarks/plan.py --turns 5 --out mine.json

For each network, batch size and backend there is one process. In it the plans (XLA or not, blocks
of steps or step by step) take turns, so that a disturbance of the machine hits all of them.
Afterwards a new model is planned as in a training that is long enough, with an empty cache:
`chosen`, and `cost`, the seconds that it took. Compared are medians; the load average tells how
busy the machine was with other work. Results go to vaenb/records/plan.json."""

import argparse
import importlib.util
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from throughput import images, make_vaenb

RESULT = Path(__file__).parent.parent / "vaenb" / "records" / "plan.json"
CASES = [("dense", 128, 100), ("dense", 1024, 20), ("conv", 128, 20)]  # steps of an epoch


def name_of(plan):
    return ("blocks" if plan.size else "step by step") + (", XLA" if plan.jit is True else "")


def case(net, batch, steps, turns):
    """One row of the record."""
    import keras

    from vaenb.block import BlockPlan, shuffled, steps_at_once
    from vaenb.plan import MEASURING, StepClock, endless, unchanged

    x = images(batch * steps)
    data = shuffled((x,), batch)
    model = make_vaenb(net, x)
    size = min(steps_at_once(batch, model.work()), data.steps)
    jits = (False, True) if keras.backend.backend() == "tensorflow" else (True,)
    functions, seconds = {}, {}
    model.optimizer.build(model.trainable_variables)
    with unchanged(model):
        for _, s, jit in itertools.product(range(turns), (size, 0), jits):
            plan, clock = BlockPlan(s, jit), StepClock(MEASURING["seconds"])
            best = min(map(min, seconds.values()), default=math.inf)
            if plan in seconds and seconds[plan][0] > 3 * best:
                continue  # far behind: once is enough
            model.jit_compile, model.train_function = jit, functions.get(plan)
            options = {"epochs": 10**9, "verbose": 0, "validation_data": None}
            model._fit_in_blocks(s, endless(data), [clock], options)
            seconds.setdefault(plan, []).append(clock.seconds)
            functions[plan] = model.train_function
    median = {plan: statistics.median(times) for plan, times in seconds.items()}

    new = make_vaenb(net, x)
    rule = BlockPlan.choose(new, data, 10**6, [], work=new.work())
    start = time.perf_counter()
    new._plan(data, 10**6, [])
    cost = time.perf_counter() - start
    chosen = new.plan if new.plan.jit != "auto" else BlockPlan(new.plan.size, True)
    rule = rule if rule.jit != "auto" else BlockPlan(rule.size, True)
    return {
        "images_per_second": {name_of(p): round(batch / t) for p, t in median.items()},
        "spread": {name_of(p): round(max(t) / min(t), 2) for p, t in seconds.items()},
        "block": size,
        "rule": name_of(rule),
        "chosen": name_of(chosen),
        "by": new.plan.chosen,
        "chosen_of_rule": round(median[rule] / median[chosen], 2),
        "chosen_of_fastest": round(min(median.values()) / median[chosen], 2),
        "cost": round(cost, 1),
        "pays_from_minutes": round(cost / MEASURING["share"] / 60, 1),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        net, batch, steps = args.one
        print(json.dumps(case(net, int(batch), int(steps), args.turns)))
        return
    from importlib.metadata import version

    backends = [b for b in ("tensorflow", "jax") if importlib.util.find_spec(b)]
    os.environ["KERAS_BACKEND"] = backends[0]
    from vaenb.plan import processor

    record = {
        "results": [],
        "turns": args.turns,
        "processor": processor(),
        "versions": {name: version(name) for name in ("vaenb", "keras", *backends)},
        "date": time.strftime("%Y-%m-%d"),
    }
    for (net, batch, steps), backend in itertools.product(CASES, backends):
        before = os.getloadavg()[0]
        with tempfile.TemporaryDirectory() as cache:
            own = {"KERAS_BACKEND": backend, "VAENB_CACHE": cache, "VAENB_PLAN": ""}
            command = [sys.executable, __file__, "--turns", args.turns, "--one", net, batch, steps]
            done = subprocess.run(
                list(map(str, command)),
                env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **own},
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
        row = {"backend": backend, "network": net, "batch": batch}
        row |= json.loads(done.stdout.splitlines()[-1])
        row["load_average"] = [round(before, 1), round(os.getloadavg()[0], 1)]
        record["results"].append(row)
        args.out.write_text(json.dumps(record, indent=1) + "\n")
        print(row, flush=True)


if __name__ == "__main__":
    main()
