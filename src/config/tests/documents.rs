//! The key table as documents, and documents as configuration.

use proptest::prelude::*;

use super::*;

#[test]
fn the_example_file_is_the_table_and_loads_as_the_defaults() {
    let text = include_str!("../../../config.toml.example");
    assert!(text == example(), "config.toml.example should read:\n{}", example());
    assert_eq!(config(&file(text)), config(&file(&format!("[upstream]\nurl = \"{URL}\""))));
    // What is commented out must be right too once somebody removes the mark.
    let uncommented: Vec<&str> = text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if KEYS.iter().any(|spec| rest.starts_with(&format!("{} = ", spec.name()))) => rest,
            _ => line,
        })
        .collect();
    let loaded = load(&file(&uncommented.join("\n"))).unwrap();
    let by_default =
        loaded.effective.iter().filter(|found| found.layer == "default").map(|found| found.spec.path);
    assert_eq!(by_default.collect::<Vec<_>>(), Vec::<&str>::new());
}

#[test]
fn the_readme_table_has_a_row_for_each_key() {
    assert_eq!(table().lines().count(), KEYS.len() + 2);
    assert!(table().contains("| `access.ttl` | `\"30s\"` | `--ttl` | "), "{}", table());
}

#[test]
fn keys_are_consistent() {
    let mut flags: Vec<&str> = KEYS.iter().filter_map(|spec| spec.flag).map(|flag| flag.long).collect();
    let count = flags.len();
    flags.sort_unstable();
    flags.dedup();
    assert_eq!(flags.len(), count);
    for spec in KEYS {
        assert!(
            !spec.section().is_empty() && spec.doc.ends_with('.') && !spec.doc.contains(['\n', '|']),
            "{}",
            spec.path
        );
    }
}

/// Some keys, each with one of its good values, in one of the layers.
fn some_settings() -> impl Strategy<Value = Vec<(usize, usize, u8)>> {
    prop::collection::vec((0..VALUES.len(), any::<prop::sample::Index>(), 0..3_u8), 0..30).prop_map(
        |choices| {
            let pick = |(key, index, layer): (usize, prop::sample::Index, u8)| {
                (key, index.index(VALUES[key].1.len()), layer)
            };
            choices.into_iter().map(pick).collect()
        },
    )
}

fn sources_of(settings: &[(usize, usize, u8)]) -> Sources {
    let mut text = std::collections::BTreeMap::<&str, String>::new();
    let mut sources = with_url(spec("cache.dir"), Sources::default());
    // Neither without the other.
    for path in [TLS.0, TLS.1] {
        text.insert(path, toml(spec(path), "one.pem"));
    }
    for (key, index, layer) in settings {
        let (path, good, _) = VALUES[*key];
        let (spec, value) = (spec(path), good[*index]);
        match (layer, spec.flag) {
            (0, _) => drop(text.insert(path, toml(spec, value))),
            (1, Some(_)) => sources.flags.push((spec, value.into())),
            _ => sources.environment.push((spec.variable().into(), value.into())),
        }
    }
    // One section header each, then the keys.
    let lines: Vec<String> = text
        .values()
        .filter_map(|table| table.lines().next().zip(table.lines().nth(1)))
        .map(|(section, line)| format!("{}.{line}", section.trim_matches(['[', ']'])))
        .collect();
    sources.file = file(&lines.join("\n")).file;
    sources
}

proptest! {
    #[test]
    fn what_check_prints_loads_to_the_same_configuration(settings in some_settings()) {
        // Two good values may still collide: that is another test's business.
        if let Ok(loaded) = load(&sources_of(&settings)) {
            let again = load(&file(&loaded.to_toml())).map_err(|problems| TestCaseError::fail(problems.to_string()))?;
            prop_assert_eq!(format!("{:?}", again.config), format!("{:?}", loaded.config));
        }
    }

    #[test]
    fn any_text_of_any_key_is_answered(key in 0..VALUES.len(), text in ".{0,60}") {
        let spec = spec(VALUES[key].0);
        for (_, sources) in in_each_layer(spec, &text) {
            let _ = load(&sources);
        }
    }

    #[test]
    fn any_file_is_answered(text in "[\\[\\]a-z.=\"0-9 \n{}]{0,80}") {
        let _ = load(&file(&text));
    }
}
