//! The command line: wires, nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    m2fp::sys::prepare_process();
    m2fp::sys::end_on_broken_pipe();
    m2fp::cli::main()
}
