//! The program that runs in the site's Python.

/// Takes the probe from the standard input, so that the command line stays readable and no file is needed.
pub(crate) const LOADER: &str = "import json, os; requests = os.fdopen(os.dup(0), 'rb'); \
    exec(compile(json.loads(requests.readline()), '<deploykit>', 'exec'), {'requests': requests, '__name__': 'deploykit'})";

/// The modules of `probe/deploykit_probe`, packed by `build.rs`, with what lets Python import and run them.
pub(crate) const PROGRAM: &str = include_str!(concat!(env!("OUT_DIR"), "/probe.py"));
