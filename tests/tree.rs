//! The tree is as it is drawn: who may name whom, where `unsafe` may stand, how long a file may be, and that the
//! README's tables are those of the code.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use larder::telemetry::metrics::{Fill, From, Grant, Probe, Route, Sizes};
use larder::telemetry::{Metrics, Outcome};

/// Lines of a file before its tests.
const LONGEST: usize = 400;

/// The one file that may hold `unsafe`, because a mapping can't be had without.
const UNSAFE: &str = "store/map.rs";

/// Where the store may change its directory: the way that all of it takes, the lock on the directory, and sled's own part.
const CHANGING: [&str; 3] = ["store/files.rs", "store/lock.rs", "store/index.rs"];

/// By what a change is recognised.
const CHANGES: [&str; 18] = [
    "fs::rename",
    "fs::remove_",
    "fs::write",
    "fs::copy",
    "fs::create_",
    "fs::hard_link",
    "fs::set_permissions",
    "DirBuilder",
    "File::create",
    "::options()",
    "OpenOptions",
    "write_all_at",
    "write_all(",
    "set_len(",
    "fallocate",
    "ftruncate",
    "sync_all",
    "sync_data",
];

/// A file of `src`.
struct Source {
    /// Relative to `src`.
    path: PathBuf,
    text: String,
}

impl Source {
    /// The top-level module that it belongs to; the crate's root and the program have none.
    fn module(&self) -> Option<String> {
        let first = self.path.iter().next()?.to_str()?;
        let name = first.strip_suffix(".rs").unwrap_or(first);
        (!matches!(name, "lib" | "main")).then(|| name.to_owned())
    }

    /// Whether it is part of a module of tests, in the one way in which those are spelt here.
    fn is_test(&self) -> bool {
        self.path.iter().any(|part| part == "tests" || part == "tests.rs")
    }

    /// Its text without comments and without what is compiled for tests alone.
    fn code(&self) -> String {
        let mut code = String::new();
        let mut lines = self.text.lines();
        while let Some(line) = lines.next() {
            if line.trim() == "#[cfg(test)]" {
                // As rustfmt writes it, an item ends with its first line or with a brace below its first letter.
                let end = line.replace("#[cfg(test)]", "}");
                let first = lines.next().unwrap_or_default();
                if first.ends_with('{') {
                    lines.by_ref().take_while(|line| *line != end).for_each(drop);
                }
            } else if !line.trim_start().starts_with("//") {
                code.push_str(line);
                code.push('\n');
            }
        }
        code
    }

    /// The top-level modules that its code names.
    fn names(&self) -> BTreeSet<String> {
        // `super` often enough is the crate as well.
        let root = "super::".repeat(self.path.iter().count());
        let code = self.code().replace(&root, "crate::");
        code.split("crate::").skip(1).flat_map(heads).collect()
    }
}

/// The first names of the paths that `path` is the rest of: one, or those in braces.
fn heads(path: &str) -> Vec<String> {
    let Some(group) = path.strip_prefix('{') else {
        return vec![head(path)];
    };
    let (mut depth, mut heads, mut begins) = (0, Vec::new(), true);
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            _ if begins && !letter.is_whitespace() => {
                heads.push(head(&group[at..]));
                begins = false;
            }
            _ => {}
        }
    }
    heads
}

fn head(path: &str) -> String {
    path.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

fn sources() -> Vec<Source> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut found) = (vec![src.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push(Source { path: path.strip_prefix(&src).unwrap().to_owned(), text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// The lines of the drawing in `lib.rs`, from the top: each module's place.
fn drawing(lib: &str) -> BTreeMap<String, usize> {
    let (_, section) = lib.split_once("//! # The layers\n").expect("lib.rs draws the layers");
    let (_, block) = section.split_once("//! ```text\n").unwrap();
    let (block, _) = block.split_once("//! ```\n").unwrap();
    let mut places = BTreeMap::new();
    for (place, line) in block.lines().enumerate() {
        let names = line.trim_start_matches("//!").trim_start();
        let names = names.split_once("  ").map_or(names, |(names, _)| names);
        for name in names.split('|') {
            assert_eq!(places.insert(name.trim().to_owned(), place), None, "{name} is drawn twice");
        }
    }
    places
}

fn file(sources: &[Source], path: &str) -> String {
    sources.iter().find(|source| source.path == Path::new(path)).unwrap().text.clone()
}

#[test]
fn modules_name_only_modules_on_lower_lines() {
    let sources = sources();
    let places = drawing(&file(&sources, "lib.rs"));
    let mut wrong = BTreeMap::<_, BTreeSet<String>>::new();
    for source in sources.iter().filter(|source| !source.is_test()) {
        let Some(module) = source.module() else { continue };
        for named in source.names().into_iter().filter(|named| *named != module) {
            let (Some(above), Some(below)) = (places.get(&module), places.get(&named)) else {
                panic!("{}: {module} or {named} isn't drawn", source.path.display());
            };
            if above >= below {
                let files = wrong.entry(format!("{module} -> {named}")).or_default();
                files.insert(source.path.display().to_string());
            }
        }
    }
    assert!(wrong.is_empty(), "against the order drawn in lib.rs: {wrong:#?}");
}

#[test]
fn every_module_is_drawn_and_every_drawn_module_exists() {
    let sources = sources();
    let lib = file(&sources, "lib.rs");
    let declared: BTreeSet<String> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .map(str::to_owned)
        .collect();
    let there: BTreeSet<String> = sources.iter().filter_map(Source::module).collect();
    let drawn: BTreeSet<String> = drawing(&lib).into_keys().collect();
    assert_eq!(drawn, declared);
    assert_eq!(drawn, there);
}

#[test]
fn names_are_found_however_they_are_written() {
    let text = "use crate::{a, b::c, d::{e, f},\n    g as h};\nuse super::super::i::j;\n// crate::k\n\
                fn f(x: crate::l::T) -> Vec<crate::m::U> {}\n#[cfg(test)]\nmod tests {\n    use crate::n;\n}\n\
                impl T {\n    #[cfg(test)]\n    fn g() {\n        crate::o::p();\n    }\n}\nuse super::q;\n";
    let source = Source { path: PathBuf::from("x/y.rs"), text: text.to_owned() };
    let names: Vec<String> = source.names().into_iter().collect();
    assert_eq!(names, ["a", "b", "d", "g", "i", "l", "m"]);
}

#[test]
fn unsafe_stands_in_one_file() {
    let holds = |source: &&Source| {
        source.code().split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == "unsafe")
    };
    let sources = sources();
    let holding: Vec<_> = sources.iter().filter(holds).map(|source| source.path.clone()).collect();
    assert_eq!(holding, [Path::new(UNSAFE)]);
}

#[test]
fn the_store_changes_its_directory_in_one_way() {
    let sources = sources();
    let changing: BTreeSet<_> = sources
        .iter()
        .filter(|source| source.path.starts_with("store") || source.path == Path::new("store.rs"))
        .filter(|source| !source.is_test())
        .filter(|source| CHANGES.iter().any(|change| source.code().contains(change)))
        .map(|source| source.path.clone())
        .collect();
    assert_eq!(changing, CHANGING.iter().map(PathBuf::from).collect());
}

#[test]
fn files_can_be_read_in_one_sitting() {
    for source in sources() {
        let before = source.text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let lines = before.lines().count();
        assert!(lines <= LONGEST, "{}: {lines} lines before its tests", source.path.display());
    }
}

/// What stands in the README between `<!-- name -->` and `<!-- /name -->`.
fn marked(name: &str) -> String {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let (_, rest) =
        readme.split_once(&format!("<!-- {name} -->\n")).unwrap_or_else(|| panic!("no {name} in the README"));
    rest.split_once(&format!("<!-- /{name} -->")).expect("an end").0.to_owned()
}

#[test]
fn the_readme_holds_the_table_of_keys() {
    assert_eq!(marked("config"), larder::config::table());
}

#[test]
fn the_readme_names_the_keys_that_take_effect_without_a_restart() {
    let text = marked("reloads");
    let named: Vec<&str> = text.split('`').skip(1).step_by(2).collect();
    let reloading = larder::config::KEYS.iter().filter(|spec| spec.reloads).map(|spec| spec.path);
    assert_eq!(named, reloading.collect::<Vec<_>>());
}

#[test]
fn the_readme_names_every_family_of_metrics_and_no_other() {
    let metrics = Metrics::default();
    touch(&metrics);
    let page = metrics.render(Sizes::default());
    let families: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let table = marked("metrics");
    let rows = table.lines().skip(2).map(|row| row.split('|').nth(1).unwrap_or_default());
    let named: BTreeSet<&str> =
        rows.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(family).collect();
    assert_eq!(named, families);
}

/// Lets something happen of each kind: some families appear with their first event only.
fn touch(metrics: &Metrics) {
    metrics.request(Route::Pass, Outcome::Pass, Duration::ZERO, Duration::ZERO);
    metrics.served(From::Store, 1);
    metrics.fetched(1);
    metrics.fill(Fill::Stored);
    metrics.probe(Probe::Yes);
    metrics.grant(Grant::Asked);
    metrics.upstream_error("refused");
    metrics.malformed();
}

/// The family of a series: without labels, and without what the format adds to a counter's name.
fn family(series: &str) -> &str {
    let name = series.split('{').next().unwrap_or(series);
    name.strip_suffix("_total").unwrap_or(name)
}
