//! Tests that need a process of their own: the log's only subscriber, or what the whole process holds.

use std::process::Command;

/// Set in the process that was started for one test.
const ALONE: &str = "M2FP_TEST_ALONE";

/// Whether the test of this name, with its module's, is alone in its process. Where it is not, it is run so now, and what
/// that process says is this one's result.
pub fn is_alone(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let executable = std::env::current_exe().expect("this binary");
    let mut command = Command::new(executable);
    let run = command.args(["--exact", test, "--nocapture"]).env(ALONE, "1").output().expect("it starts again");
    let said = String::from_utf8_lossy(&run.stdout);
    print!("{said}");
    assert!(run.status.success(), "{test}: {said}{}", String::from_utf8_lossy(&run.stderr));
    assert!(said.contains("1 passed"), "there is no test called {test}: {said}");
    false
}
