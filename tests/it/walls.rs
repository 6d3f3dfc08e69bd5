//! The walls of the house: which room may use which, as ARCHITECTURE.md lists it, and no circle between files.
//!
//! What is read are paths (`crate::…`, `super::…`, a child module's name) outside comments and unit tests. A path in a
//! macro that is put together from pieces would be missed; there is none.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A source file by its module path, `image/decode` for example; a room is the first segment.
type Module = String;

/// Which modules each module uses.
type Uses = BTreeMap<Module, BTreeSet<Module>>;

/// Rooms from the roof to the ground, as ARCHITECTURE.md lists them: a room uses those below it alone.
fn rooms() -> Vec<String> {
    let page = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let (_, list) = page.split_once("<!-- walls -->\n```text\n").expect("a list of rooms marked `walls`");
    let (list, _) = list.split_once("\n```").expect("a list that ends");
    list.split_whitespace().filter(|word| *word != "→").map(str::to_owned).collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The text of every module of the library.
fn sources() -> BTreeMap<Module, String> {
    fn walk(folder: &Path, src: &Path, found: &mut BTreeMap<Module, String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, src, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let relative = path.strip_prefix(src).unwrap().with_extension("");
                let module = relative.to_str().unwrap().replace('\\', "/");
                let module = module.strip_suffix("/mod").map_or(module.clone(), str::to_owned);
                if module != "lib" && !module.starts_with("bin/") {
                    found.insert(module, std::fs::read_to_string(&path).unwrap());
                }
            }
        }
    }
    let (src, mut found) = (root().join("src"), BTreeMap::new());
    walk(&src, &src, &mut found);
    found
}

/// What remains of a file without its comments and its unit tests.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let line = |line: &str| line.split("//").next().unwrap_or_default().to_owned() + "\n";
    text.lines().map(line).collect()
}

/// The paths of a `use` with braces, one by one: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn expand(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else { return vec![path.trim().to_owned()] };
    let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
    let (mut depth, mut parts, mut part) = (0, Vec::new(), String::new());
    for character in inner.chars().chain([',']) {
        match character {
            ',' if depth == 0 => parts.push(std::mem::take(&mut part)),
            '{' => (depth, part) = (depth + 1, part + "{"),
            '}' => (depth, part) = (depth - 1, part + "}"),
            other => part.push(other),
        }
    }
    parts
        .iter()
        .filter(|part| !part.trim().is_empty())
        .flat_map(|part| expand(&format!("{before}{}", part.trim())))
        .collect()
}

/// Every path in `code` that begins with a word of `starts`, with braces expanded.
fn paths(code: &str, starts: &[String]) -> Vec<String> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for start in starts {
        let needle = format!("{start}::");
        for (at, _) in code.match_indices(&needle) {
            let before = code[..at].chars().next_back().unwrap_or(' ');
            if is_word(before) || before == ':' {
                continue;
            }
            let is_use = code[..at].trim_end().ends_with("use");
            let rest = &code[at..];
            let is_end = |c: char| if is_use { c == ';' } else { !is_word(c) && c != ':' };
            let end = rest.find(is_end).unwrap_or(rest.len());
            found.extend(expand(&rest[..end]));
        }
    }
    found
}

fn uses(sources: &BTreeMap<Module, String>) -> Uses {
    let mut uses = Uses::new();
    for (module, text) in sources {
        let here: Vec<&str> = module.split('/').collect();
        let children: Vec<String> = sources
            .keys()
            .filter_map(|other| other.strip_prefix(&format!("{module}/")))
            .filter(|child| !child.contains('/'))
            .map(str::to_owned)
            .collect();
        let starts: Vec<String> = ["crate", "super", "self"].map(str::to_owned).into_iter().chain(children).collect();
        let mut used = BTreeSet::new();
        for path in paths(&code(text), &starts) {
            let mut segments = path.split("::").map(str::trim).peekable();
            let mut at: Vec<&str> = here.clone();
            match segments.peek() {
                Some(&"crate") => {
                    at.clear();
                    segments.next();
                }
                Some(&"self") => {
                    segments.next();
                }
                _ => {}
            }
            while segments.next_if_eq(&"super").is_some() {
                at.pop();
            }
            at.extend(segments.take_while(|segment| !matches!(*segment, "self" | "*")));
            let module_at = (1..=at.len()).rev().map(|length| at[..length].join("/")).find(|m| sources.contains_key(m));
            used.extend(module_at.filter(|other| other != module));
        }
        uses.insert(module.clone(), used);
    }
    uses
}

fn room(module: &str) -> &str {
    module.split('/').next().unwrap_or_default()
}

/// What breaks the walls: a room that is not listed, and a room that uses one above it.
fn faults(uses: &Uses, rooms: &[String]) -> Vec<String> {
    let floor = |module: &str| rooms.iter().position(|name| name == room(module));
    let mut faults = Vec::new();
    for (module, used) in uses {
        let Some(here) = floor(module) else {
            faults.push(format!("ARCHITECTURE.md does not list the room of {module}"));
            continue;
        };
        let is_above = |other: &&Module| room(other) != room(module) && floor(other).is_some_and(|there| there < here);
        faults.extend(used.iter().filter(is_above).map(|other| format!("{module} uses {other}, which is above it")));
    }
    faults
}

/// The modules that can reach themselves.
fn circles(uses: &Uses) -> BTreeSet<Module> {
    let reaches_itself = |start: &Module| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![start]);
        while let Some(module) = next.pop() {
            for other in uses.get(module).into_iter().flatten() {
                if other == start {
                    return true;
                }
                if seen.insert(other) {
                    next.push(other);
                }
            }
        }
        false
    };
    uses.keys().filter(|module| reaches_itself(module)).cloned().collect()
}

#[test]
fn no_room_uses_one_above_it() {
    let faults = faults(&uses(&sources()), &rooms());
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn no_files_form_a_circle() {
    let circles = circles(&uses(&sources()));
    assert!(circles.is_empty(), "{circles:#?}");
}

#[test]
fn every_listed_room_is_there() {
    let sources = sources();
    let found: BTreeSet<_> = sources.keys().map(|module| room(module)).collect();
    let rooms = rooms();
    assert_eq!(rooms.iter().map(String::as_str).collect::<BTreeSet<_>>(), found);
}

/// The checker sees what it is there for: each way to write a forbidden use, and none in comments and unit tests.
#[test]
fn a_forbidden_use_is_found() {
    let rooms = rooms();
    let with = |module: &str, line: &str| {
        let mut sources = sources();
        let text = sources.get_mut(module).unwrap();
        *text = format!("{line}\n{text}");
        let uses = uses(&sources);
        (faults(&uses, &rooms), circles(&uses))
    };
    for line in [
        "use crate::http::problem;",
        "use crate::http::{self, problem};",
        "pub(crate) use crate::{error::Error, http::problem::response};",
        "fn f() { crate::http::problem::response(); }",
        "use super::super::http::problem;",
    ] {
        let (faults, _) = with("delivery/record", line);
        assert!(faults.iter().any(|fault| fault.starts_with("delivery/record uses http")), "{line}: {faults:?}");
    }
    for line in ["// use crate::http::problem;", "//! [`crate::http::problem`]"] {
        assert!(with("delivery/record", line).0.is_empty(), "{line}");
    }
    let (_, circles) = with("lambda/shape", "use super::dispatch::dispatch;");
    assert!(circles.contains("lambda/shape") && circles.contains("lambda/dispatch"), "{circles:?}");
}
