"""Runs the contestants in alternating rounds and prints medians and ratios.

Each ratio is the median of the rounds' own ratios: what drifts between rounds, a neighbour on the machine for
example, drifts for both.
"""

import argparse
import contextlib
import json
import shlex
import statistics
import sys
import tempfile
from dataclasses import asdict

import load
from servers import PASSING, Certificate, Files, Larder, Nginx, StandIn, Varnish, has_varnish, versions


# What larder is to be at least, as a ratio of bytes a second.
GOALS = {
    ("64KiB", "nginx"): 1.3,
    ("64KiB", "Varnish"): 1.2,
    ("1MiB", "nginx"): 1.5,
    ("1MiB", "Varnish"): 1.0,
    ("100MiB", "nginx"): 1.5,
    ("100MiB", "Varnish"): 0.9,
    ("a 4 KiB file", "nginx"): 1.0,
    ("300B", "nginx"): 0.9,
    ("64KiB passing", "nginx"): 1.3,
    ("100MiB passing", "nginx"): 1.3,
    ("300B, TLS", "nginx"): 1.0,
    ("64KiB passing, TLS", "nginx"): 1.0,
    ("100MiB passing, TLS", "nginx"): 1.0,
}

# What passes: an answer of the API, a page, a package.
PASSED = {"300B": 300, "64KiB passing": 64 << 10, "100MiB passing": 100 << 20}


def arguments():
    parser = argparse.ArgumentParser(prog="benches/compare", description="larder beside nginx and Varnish")
    parser.add_argument("--rounds", type=int, default=7, help="rounds each [%(default)s]")
    parser.add_argument("--sizes", default="64KiB,1MiB,100MiB", help="of hot archives; none: '' [%(default)s]")
    parser.add_argument("--wrk", default="-t1 -c16 -d5s", help="wrk's arguments [%(default)s]")
    parser.add_argument("--no-file", action="store_true", help="leave out one file of a hot archive")
    parser.add_argument("--no-passing", action="store_true", help="leave out what only passes")
    parser.add_argument("--cold", default="256MiB", help="size of the cold archive; none: '' [%(default)s]")
    parser.add_argument("--logs", action="store_true", help="let larder and nginx write a line a request")
    parser.add_argument("--no-varnish", action="store_true", help="leave Varnish out")
    parser.add_argument("--json", metavar="FILE", help="write every round's figures there")
    return parser.parse_args()


def rounds(count, contestants, measure):
    """Measures each contestant once a round, in an order that turns, and returns the results by name."""
    results = {server.name: [] for server in contestants}
    for number in range(count):
        turn = number % len(contestants)
        for server in contestants[turn:] + contestants[:turn]:
            results[server.name].append(measure(server, number))
            print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return results


def hot(options, size, wanted=lambda gitlab: gitlab.jobs[0]):
    with contextlib.ExitStack() as running:
        home = homes(running)
        gitlab = begin(running, StandIn(home(), size, 1))
        contestants = [
            begin(running, Larder(home(), gitlab, "mapped", options.logs)),
            begin(running, Nginx(home(), gitlab.address, options.logs)),
            begin(running, Larder(home(), gitlab, "pread", options.logs)),
        ]
        if has_varnish() and not options.no_varnish:
            contestants.append(begin(running, Varnish(home(), gitlab)))
        job, credential, wrk = wanted(gitlab), gitlab.credential, shlex.split(options.wrk)
        for server in contestants:
            # The first download fills, the second is a hit that settles what is left of the fill.
            load.cold(server, job, credential)
            load.once(server, job, credential)
        return rounds(
            options.rounds,
            contestants,
            lambda server, _: load.hot(server, job["path"], credential, wrk),
        )


def cold(options):
    with contextlib.ExitStack() as running:
        home = homes(running)
        gitlab = begin(running, StandIn(home(), options.cold, options.rounds + 1))
        contestants = [
            begin(running, Larder(home(), gitlab, "mapped", options.logs)),
            begin(running, Nginx(home(), gitlab.address, options.logs)),
        ]
        for server in contestants:
            load.cold(server, gitlab.jobs[-1], gitlab.credential)
        return rounds(
            options.rounds,
            contestants,
            lambda server, number: load.cold(server, gitlab.jobs[number], gitlab.credential),
        )


def passing(options, name, tls):
    """What isn't an artifact, from a GitLab that is no slower than a file server."""
    with contextlib.ExitStack() as running:
        home = homes(running)
        gitlab = begin(running, Files(home(), PASSED[name]))
        certificate = Certificate(home()) if tls else None
        contestants = [
            begin(running, Larder(home(), gitlab, "mapped", options.logs, certificate)),
            begin(running, Nginx(home(), gitlab.address, options.logs, PASSING, certificate)),
        ]
        wrk = shlex.split(options.wrk)
        return rounds(
            options.rounds, contestants, lambda server, _: load.hot(server, "/file", "Accept: */*", wrk)
        )


def homes(running):
    return lambda: running.enter_context(tempfile.TemporaryDirectory(prefix="larder-compare-"))


def begin(running, server):
    running.callback(server.stop)
    return server


def median(results, figure):
    return statistics.median(getattr(one, figure) for one in results)


def ratio(ours, theirs, figure):
    """Ours over theirs: the median of the rounds, and the rounds' extremes."""
    each = [getattr(a, figure) / getattr(b, figure) for a, b in zip(ours, theirs)]
    return f"{statistics.median(each):.2f} ({min(each):.2f}-{max(each):.2f})"


def report_hot(size, results):
    ours = results["larder (mapped)"]
    for name, figures in results.items():
        print(
            f"| {size} | {name} | {median(figures, 'requests_per_second'):,.0f} "
            f"| {median(figures, 'bytes_per_second') / 1e9:.2f} "
            f"| {median(figures, 'processor_seconds_per_gb'):.3f} "
            f"| {'' if figures is ours else ratio(ours, figures, 'bytes_per_second')} "
            f"| {f'>= {GOALS[size, name]}' if (size, name) in GOALS else ''} |"
        )


def report_cold(size, results):
    ours = results["larder (mapped)"]
    for name, figures in results.items():
        same = figures is ours
        print(
            f"| {size} | {name} | {median(figures, 'whole'):.3f} | {median(figures, 'first_byte') * 1e3:.1f} "
            f"| {'' if same else ratio(ours, figures, 'whole')} "
            f"| {'' if same else ratio(ours, figures, 'first_byte')} |"
        )


def main():
    options = arguments()
    kept = {"on": versions(), "wrk": options.wrk, "logs": options.logs}
    logs = "a line a request to a file" if options.logs else "no line a request"
    print(f"{kept['on']}\nwrk {options.wrk}, {options.rounds} rounds, larder and nginx write {logs}.\n")
    if not has_varnish():
        print("Varnish is left out: varnishd or a C compiler isn't installed.\n")
    sizes = [size for size in options.sizes.split(",") if size]
    if sizes or not options.no_file or not options.no_passing:
        print("| hot archive, or what passes | server | requests/s | GB/s | its CPU s per GB | larder (mapped) over it | goal |")
        print("|---|---|---|---|---|---|---|")
    for size in sizes:
        results = hot(options, size)
        kept[f"hot {size}"] = plain(results)
        report_hot(size, results)
    if not options.no_file:
        # nginx and Varnish keep the file itself; larder takes it out of the archive.
        results = hot(options, "1MiB", lambda gitlab: gitlab.file)
        kept["hot file"] = plain(results)
        report_hot("a 4 KiB file", results)
    for tls in () if options.no_passing else (False, True):
        for name in PASSED:
            results = passing(options, name, tls)
            what = f"{name}, TLS" if tls else name
            kept[what] = plain(results)
            report_hot(what, results)
    if options.cold:
        results = cold(options)
        kept[f"cold {options.cold}"] = plain(results)
        print("\n| cold archive | server | seconds | first byte, ms | larder's time over its | first byte over its |")
        print("|---|---|---|---|---|---|")
        report_cold(options.cold, results)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(kept, file, indent=1)


def plain(results):
    return {name: [asdict(one) for one in figures] for name, figures in results.items()}


main()
