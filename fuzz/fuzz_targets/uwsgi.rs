#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| deploykit::fuzzing::uwsgi(bytes));
