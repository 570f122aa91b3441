//! The tree is as it is drawn: who may name whom, where `unsafe` may stand, how long a file may be, and that the
//! README's tables are those of the code.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use larder::telemetry::metrics::{BodySource, FillLabel, GrantLabel, ProbeLabel, RouteLabel, Sizes};
use larder::telemetry::{Metrics, Outcome};

/// Lines of a file before its tests.
const LONGEST: usize = 400;

/// The one file that may hold `unsafe`, because a mapping can't be had without.
const UNSAFE: &str = "store/disk/map.rs";

/// Where the store may change its directory: the way that all of it takes, the lock on the directory, and sled's own part.
const CHANGING: [&str; 3] = ["store/disk/files.rs", "store/disk/lock.rs", "store/index/home.rs"];

/// Where the store may open something by its path: the directory itself. Everything in it is reached from there.
const OPENING: [&str; 3] = ["store/disk/reach.rs", "store/disk/lock.rs", "store/index/home.rs"];

/// By what that is recognised: what follows links.
const OPENS: [&str; 15] = [
    "fs::read",
    "fs::metadata",
    "fs::symlink_metadata",
    "fs::canonicalize",
    "fs::open(",
    "fs::stat(",
    "fs::statvfs(",
    "File::open",
    "File::create",
    "DirBuilder",
    "read_dir(",
    "exists()",
    ".is_dir()",
    ".is_symlink()",
    "fs::remove_",
];

/// By what a change is recognised.
const CHANGES: [&str; 24] = [
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
    "mkdirat",
    "renameat",
    "unlinkat",
    "linkat",
    "fchmod",
    "OFlags::CREATE",
];

/// Lines before its tests that a file should have which holds no type of its own: a few functions are read where they
/// are called.
const SHORTEST: usize = 60;

/// What std brings into every file: whoever reads the name takes it for that.
const PRELUDE: [&str; 37] = [
    "AsMut",
    "AsRef",
    "Box",
    "Clone",
    "Copy",
    "Debug",
    "Default",
    "DoubleEndedIterator",
    "Drop",
    "Eq",
    "Err",
    "ExactSizeIterator",
    "Extend",
    "Fn",
    "FnMut",
    "FnOnce",
    "From",
    "FromIterator",
    "Hash",
    "Into",
    "IntoIterator",
    "Iterator",
    "None",
    "Ok",
    "Option",
    "Ord",
    "PartialEq",
    "PartialOrd",
    "Result",
    "Send",
    "Sized",
    "Some",
    "String",
    "Sync",
    "ToOwned",
    "ToString",
    "Vec",
];

// What doesn't hold yet. The lists only become shorter: a test fails as well where an exception is gone and still listed.

/// Names that several types have.
const SHARED_NAMES: &[&str] = &["Settings"];

/// Types with a name of std's prelude.
const HIDING: &[&str] = &[];

/// Files of less than [`SHORTEST`] lines without a type.
const SMALL: &[&str] = &[
    "app/descriptors.rs",
    "base/num.rs",
    "base/rt.rs",
    "cli/serve.rs",
    "config/nearest.rs",
    "config/size.rs",
    "config/text.rs",
    "http/content/coding.rs",
    "http/content/grpc.rs",
    "http/content/svg.rs",
    "store/scrub/pages.rs",
    "zip/gzip.rs",
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

    /// Its lines before its tests.
    fn lines(&self) -> usize {
        self.text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default().lines().count()
    }

    /// Its place among the modules: `store/disk/files.rs` is `["store", "files"]`.
    fn place(&self) -> Vec<String> {
        let path = self.path.with_extension("");
        let parts = path.iter().map(|part| part.to_string_lossy().into_owned());
        parts.filter(|part| !matches!(part.as_str(), "lib" | "main")).collect()
    }

    /// The types that it declares, by their keywords and names. What a trait's implementation calls `type` is none.
    fn types(&self) -> Vec<(&'static str, String)> {
        let mut types = Vec::new();
        for line in self.code().lines() {
            let declared = without_visibility(line.trim_start());
            for keyword in ["struct ", "enum ", "trait ", "type "] {
                let Some(name) = declared.strip_prefix(keyword).map(head) else { continue };
                let own = keyword != "type " || !line.starts_with(' ');
                if own && name.starts_with(char::is_uppercase) {
                    types.push((keyword.trim_end(), name));
                }
            }
        }
        types
    }

    /// The whole paths that its code names, from the crate's root, and under which names.
    fn paths(&self) -> Vec<(Vec<String>, String)> {
        let (code, place) = (self.code(), self.place());
        let mut found = Vec::new();
        for start in ["crate::", "super::", "self::"] {
            for (at, _) in code.match_indices(start) {
                let before = code[..at].chars().next_back().unwrap_or(' ');
                if !before.is_alphanumeric() && !matches!(before, '_' | ':') {
                    spread(&code[at..], &mut Vec::new(), &mut found);
                }
            }
        }
        for line in code.lines() {
            // What a parent takes from its children, it may name without `self`.
            if let Some(used) = without_visibility(line).strip_prefix("use ") {
                let at = line_start(&code, line).saturating_add(line.len() - used.len());
                let mut taken = Vec::new();
                spread(&code[at..], &mut Vec::new(), &mut taken);
                let outside = |path: &Vec<String>| !matches!(path[0].as_str(), "crate" | "super" | "self");
                taken.retain(|(path, _)| outside(path));
                found.extend(
                    taken.into_iter().map(|(path, name)| ([vec!["self".to_owned()], path].concat(), name)),
                );
            }
        }
        found.into_iter().map(|(path, name)| (from_root(&path, &place), name)).collect()
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

fn without_visibility(line: &str) -> &str {
    match line.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(") ").map_or(rest, |(_, rest)| rest),
        Some(rest) => rest.trim_start(),
        None => line,
    }
}

/// Where a line of `code`, which is a part of it, begins.
fn line_start(code: &str, line: &str) -> usize {
    line.as_ptr().addr() - code.as_ptr().addr()
}

/// The paths that `text` begins with, behind `before`, and under which names; returns what follows them.
fn spread<'a>(text: &'a str, before: &mut Vec<String>, found: &mut Vec<(Vec<String>, String)>) -> &'a str {
    let depth = before.len();
    let mut rest = text.trim_start();
    loop {
        if let Some(group) = rest.strip_prefix('{') {
            rest = group.trim_start();
            while !rest.is_empty() && !rest.starts_with('}') {
                let after = spread(rest, before, found).trim_start();
                // What isn't a path isn't ours to understand.
                rest = after.strip_prefix(',').unwrap_or(after.trim_start_matches(|c| c != '}')).trim_start();
            }
            before.truncate(depth);
            return rest.strip_prefix('}').unwrap_or(rest);
        }
        let name = head(rest);
        rest = &rest[name.len()..];
        before.push(name);
        match rest.strip_prefix("::") {
            Some(more) => rest = more,
            None => break,
        }
    }
    let alias = rest.strip_prefix(" as ").map(head);
    rest = &rest[alias.as_ref().map_or(0, |alias| " as ".len() + alias.len())..];
    let name = alias.unwrap_or_else(|| before.last().cloned().unwrap_or_default());
    found.push((before.clone(), name));
    before.truncate(depth);
    rest
}

/// A path without `crate`, `super` and `self`, as a file in `place` means it.
fn from_root(path: &[String], place: &[String]) -> Vec<String> {
    let mut whole = place.to_vec();
    for part in path {
        match part.as_str() {
            "crate" => whole.clear(),
            "self" => {}
            "super" => drop(whole.pop()),
            _ => whole.push(part.clone()),
        }
    }
    whole
}

/// Which file of `files` a path leads to, through what each of them takes from others.
fn leads_to(path: &[String], files: &Files, steps: usize) -> Option<Vec<String>> {
    let end = (1..=path.len()).rev().find(|end| files.contains_key(&path[..*end]))?;
    let (place, rest) = path.split_at(end);
    let taken = rest.first().and_then(|name| files[place].iter().find(|(_, taken)| taken == name));
    let further = taken.filter(|(path, _)| steps > 0 && path != place);
    let through = further.and_then(|(path, _)| leads_to(path, files, steps - 1));
    Some(through.unwrap_or_else(|| place.to_vec()))
}

/// The files by their places, each with the paths that it names.
type Files = BTreeMap<Vec<String>, Vec<(Vec<String>, String)>>;

/// The files that each file names. A file and those in its own directory are one thing to others and know each other.
fn naming() -> BTreeSet<(String, String)> {
    let sources = sources();
    let files: Files = sources.iter().filter(|s| !s.is_test()).map(|s| (s.place(), s.paths())).collect();
    let mut naming = BTreeSet::new();
    for (place, paths) in &files {
        for named in paths.iter().filter_map(|(path, _)| leads_to(path, &files, 3)) {
            if !named.starts_with(place) && !place.starts_with(&named) {
                naming.insert((place.join("/"), named.join("/")));
            }
        }
    }
    naming
}

/// Pairs of files that name each other.
fn circles() -> BTreeSet<String> {
    let naming = naming();
    let both = |(a, b): &&(String, String)| a < b && naming.contains(&(b.clone(), a.clone()));
    naming.iter().filter(both).map(|(a, b)| format!("{a} <-> {b}")).collect()
}

/// Each name of a type, and how many types have it. Each module may have its `Error`.
fn names_of_types() -> BTreeMap<String, usize> {
    let mut names = BTreeMap::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        for (_, name) in source.types().into_iter().filter(|(_, name)| name != "Error") {
            *names.entry(name).or_default() += 1;
        }
    }
    names
}

/// Short files without a type.
fn small_files() -> BTreeSet<String> {
    let small = |source: &&Source| source.lines() < SHORTEST && source.types().is_empty();
    let sources = sources();
    // A file that is only the head of a directory holds what its modules have in common: their documentation.
    let heads =
        |source: &Source| sources.iter().any(|other| other.path.starts_with(source.path.with_extension("")));
    let ours = |source: &&Source| !source.is_test() && source.module().is_some() && !heads(source);
    sources.iter().filter(ours).filter(small).map(|source| source.path.display().to_string()).collect()
}

/// Holds what was found to what is known, both ways.
fn ratchet(what: &str, found: &BTreeSet<String>, known: &[&str]) {
    println!("{what}: {found:#?}");
    let known: BTreeSet<String> = known.iter().map(|&known| known.to_owned()).collect();
    let (new, gone): (Vec<_>, Vec<_>) =
        (found.difference(&known).collect(), known.difference(found).collect());
    assert!(new.is_empty(), "{what}, new: {new:#?}");
    assert!(gone.is_empty(), "{what}, no longer so and still listed: {gone:#?}");
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

/// The programs, tests and benches that name what the crate exports.
fn outside() -> String {
    fn read(path: &Path, all: &mut String) {
        if path.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                read(&entry.unwrap().path(), all);
            }
        } else if path.extension().is_some_and(|end| end == "rs") {
            all.push_str(&fs::read_to_string(path).unwrap());
        }
    }
    let mut all = String::new();
    for part in ["src/main.rs", "benches", "examples", "fuzz/fuzz_targets", "tests"] {
        read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(part), &mut all);
    }
    all
}

/// The compiler finds what nothing uses as long as nobody else could: so nothing is exported that only might be of use.
/// Types aside, which the signatures of others need.
#[test]
fn nothing_is_exported_that_no_program_test_or_bench_names() {
    let outside = outside();
    let named: BTreeSet<&str> = outside.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let mut unnamed = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test() && source.module().is_some()) {
        for line in source.code().lines() {
            let Some(declared) = line.trim_start().strip_prefix("pub ") else { continue };
            let plain = ["const ", "async ", "unsafe "].iter().fold(declared, |rest, word| {
                let shorter = rest.strip_prefix(word);
                shorter.filter(|rest| rest.starts_with(char::is_lowercase)).unwrap_or(rest)
            });
            for keyword in ["fn ", "const ", "static ", "trait ", "mod "] {
                let Some(name) = plain.strip_prefix(keyword).map(head) else { continue };
                if !named.contains(&*name) {
                    unnamed.push(format!("{}: {name}", source.path.display()));
                }
            }
        }
    }
    assert!(unnamed.is_empty(), "exported for nobody: {unnamed:#?}");
}

#[test]
fn every_module_is_drawn_and_every_drawn_module_exists() {
    let sources = sources();
    let lib = file(&sources, "lib.rs");
    let declared: BTreeSet<String> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("pub ").unwrap_or(line).strip_prefix("mod ")?.strip_suffix(';'))
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
fn paths_are_followed_to_the_files_that_hold_what_they_name() {
    let file = |path: &str, text: &str| {
        let source = Source { path: PathBuf::from(path), text: text.to_owned() };
        (source.place(), source.paths())
    };
    let files: Files = BTreeMap::from([
        file("a.rs", "pub use b::{C, D as E};\nuse crate::x;\n"),
        file("a/b.rs", "use super::{g::{self, H}, F};\nfn f() -> super::super::x::X {}\n"),
        file("a/g.rs", "use super::E;\n"),
        file("x.rs", ""),
    ]);
    let leads = |place: &str| -> Vec<String> {
        let place: Vec<String> = place.split('/').map(str::to_owned).collect();
        files[&place]
            .iter()
            .filter_map(|(path, _)| leads_to(path, &files, 3))
            .map(|to| to.join("/"))
            .collect()
    };
    assert_eq!(leads("a"), ["x", "a/b", "a/b"]);
    assert_eq!(leads("a/b"), ["a/g", "a/g", "a", "x"]);
    assert_eq!(leads("a/g"), ["a/b"]);
}

#[test]
fn no_two_files_name_each_other() {
    ratchet("circles", &circles(), &[]);
}

#[test]
fn no_two_types_have_one_name() {
    let shared = names_of_types().into_iter().filter(|(_, types)| *types > 1).map(|(name, _)| name);
    ratchet("shared names", &shared.collect(), SHARED_NAMES);
}

#[test]
fn no_type_hides_one_that_is_there_without_asking() {
    let mut hiding = BTreeSet::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        for (keyword, name) in source.types() {
            // A module's own `Result` is still one.
            if PRELUDE.contains(&name.as_str()) && (keyword, name.as_str()) != ("type", "Result") {
                hiding.insert(format!("{}: {name}", source.path.display()));
            }
        }
    }
    ratchet("types named as std's", &hiding, HIDING);
}

#[test]
fn a_file_of_its_own_has_something_of_its_own() {
    ratchet("small files without a type", &small_files(), SMALL);
}

/// Says how large the code is (`--nocapture`).
#[test]
fn the_tree_is_measured() {
    let sources = sources();
    let production: Vec<&Source> = sources.iter().filter(|source| !source.is_test()).collect();
    let code: Vec<String> = production.iter().map(|source| source.code()).collect();
    let lines = || code.iter().flat_map(|code| code.lines()).map(str::trim).filter(|line| !line.is_empty());
    let names = names_of_types();
    let types: usize = names.values().sum();
    let shared: usize = names.values().filter(|types| **types > 1).sum();
    let public = lines().filter(|line| line.starts_with("pub ") && !line.ends_with(',')).count();
    let locks = lines()
        .filter(|line| {
            !line.starts_with("use ")
                && ["Mutex<", "RwLock<", "Atomic"].iter().any(|lock| line.contains(lock))
        })
        .count();
    let short = production.iter().filter(|source| source.lines() < SHORTEST).count();
    println!(
        "lines of code: {}, files: {}, of them under {SHORTEST} lines: {short}, types: {types}, sharing a name: {} %, \
         pub items: {public}, circles: {}, lines with a lock or an atomic: {locks}",
        lines().count(),
        production.len(),
        100 * shared / types,
        circles().len(),
    );
    assert!(types > 0);
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
fn the_store_reaches_nothing_of_its_directory_by_a_path() {
    let sources = sources();
    let opening: BTreeSet<_> = sources
        .iter()
        .filter(|source| source.path.starts_with("store") || source.path == Path::new("store.rs"))
        .filter(|source| !source.is_test())
        .filter(|source| OPENS.iter().any(|opens| source.code().contains(opens)))
        .map(|source| source.path.clone())
        .collect();
    assert_eq!(opening, OPENING.iter().map(PathBuf::from).collect());
}

#[test]
fn files_can_be_read_in_one_sitting() {
    for source in sources() {
        let lines = source.lines();
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
    metrics.request(RouteLabel::Pass, Outcome::Pass, Duration::ZERO, Duration::ZERO);
    metrics.served(BodySource::Store, 1);
    metrics.fetched(1);
    metrics.fill(FillLabel::Stored);
    metrics.probe(ProbeLabel::Yes);
    metrics.grant(GrantLabel::Asked);
    metrics.upstream_error("refused");
    metrics.malformed();
}

/// The family of a series: without labels, and without what the format adds to a counter's name.
fn family(series: &str) -> &str {
    let name = series.split('{').next().unwrap_or(series);
    name.strip_suffix("_total").unwrap_or(name)
}
