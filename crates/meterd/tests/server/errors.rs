//! `meterd errors` in every form, and the help of every command.

use crate::support::run;
use serde_json::Value;

const SURFACES: [&str; 6] = [
    "native",
    "m3ter",
    "wattwatchers",
    "fsm-navigator",
    "t-iot-hub",
    "meter-web",
];

fn catalogue() -> Vec<Value> {
    let json = run(&["errors", "--format", "json"]).succeeded().stdout;
    serde_json::from_str(&json).unwrap()
}

#[test]
fn json_holds_every_surface_and_every_fault_with_its_answer() {
    let all = catalogue();
    let names: Vec<_> = all.iter().map(|s| s["surface"].as_str().unwrap()).collect();
    assert_eq!(names, SURFACES);
    let codes = |surface: &Value| -> Vec<String> {
        let faults = surface["faults"].as_array().unwrap();
        faults
            .iter()
            .map(|fault| fault["code"].as_str().unwrap().to_owned())
            .collect()
    };
    for surface in &all {
        assert_eq!(codes(surface), codes(&all[0]), "{}", surface["surface"]);
        for fault in surface["faults"].as_array().unwrap() {
            let status = fault["answer"]["status"].as_u64().unwrap();
            // Some originals report failures of single items within a success.
            assert!((200..600).contains(&status), "{fault}");
            for member in ["title", "advice", "stored", "remedy"] {
                assert!(!fault[member].as_str().unwrap().is_empty(), "{fault}");
            }
        }
    }
    for name in SURFACES {
        let json = run(&["errors", "--surface", name, "--format", "json"]).succeeded();
        let one: Value = serde_json::from_str(&json.stdout).unwrap();
        let expected = all.iter().find(|s| s["surface"] == name).unwrap();
        assert_eq!(one.as_array().unwrap().len(), 1);
        assert_eq!(&one[0], expected);
    }
}

#[test]
fn table_and_markdown_name_every_fault_of_every_surface() {
    let all = catalogue();
    for name in SURFACES {
        let table = run(&["errors", "--surface", name]).succeeded().stdout;
        let markdown = run(&["errors", "--surface", name, "--format", "md"])
            .succeeded()
            .stdout;
        let faults = all.iter().find(|s| s["surface"] == name).unwrap()["faults"].clone();
        for fault in faults.as_array().unwrap() {
            let code = fault["code"].as_str().unwrap();
            let status = fault["answer"]["status"].to_string();
            let row = table
                .lines()
                .find(|line| line.split_whitespace().next() == Some(code));
            let row = row.unwrap_or_else(|| panic!("{name}: no {code} in the table"));
            assert_eq!(
                row.split_whitespace().nth(1),
                Some(status.as_str()),
                "{row}"
            );
            assert!(markdown.contains(&format!("`{code}`")), "{name}: {code}");
        }
        let rows = markdown
            .lines()
            .filter(|line| line.starts_with(&format!("| {name} |")))
            .count();
        assert!(rows > 50, "{name}: {rows} rows");
    }
}

#[test]
fn an_unknown_surface_is_refused_with_the_known_ones() {
    run(&["errors", "--surface", "m4ter"]).failed_with(&SURFACES);
    run(&["errors", "--format", "yaml"]).ended_with(2, &["table", "json", "md"]);
}

/// Names of the commands below one, as its help lists them.
fn commands_in(help: &str) -> Vec<String> {
    let Some((_, listed)) = help.split_once("Commands:\n") else {
        return Vec::new();
    };
    listed
        .lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

/// Checks the help of a command and of those below it, and counts them.
fn check_help(command: &[&str]) -> usize {
    let help = run(&[command, &["--help"]].concat()).succeeded().stdout;
    let below = commands_in(&help);
    if !command.is_empty() {
        let example = format!("meterd {}", command.join(" "));
        let shown = help.split_once("Example").map_or("", |(_, shown)| shown);
        assert!(shown.contains(&example), "{example}: {help}");
    }
    let counts = below
        .iter()
        .map(|name| check_help(&[command, &[name.as_str()]].concat()));
    1 + counts.sum::<usize>()
}

#[test]
fn the_help_of_every_command_has_an_example() {
    let count = check_help(&[]);
    assert!(count > 10, "only {count} commands were found");
    run(&[]).ended_with(2, &["Usage"]);
    run(&["servee"]).ended_with(2, &["serve"]);
}
