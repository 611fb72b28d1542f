//! The public interface of the library, as a file in which a review sees each change of it.

use std::process::Command;

use public_api::{Builder, MINIMUM_NIGHTLY_RUST_VERSION};
use snapbox::{Data, assert_data_eq};

use crate::support::{root, skip};

#[test]
fn the_public_interface_is_the_one_that_was_reviewed() {
    // rustdoc writes JSON for nightly Rust only, unless it is told to be one.
    let mut rustdoc = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    rustdoc.args(["rustdoc", "--quiet", "--locked", "--offline", "--package", "deploykit", "--lib", "--"]);
    rustdoc.args(["-Z", "unstable-options", "--output-format", "json"]);
    let done = rustdoc.env("RUSTC_BOOTSTRAP", "1").current_dir(root()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into);
    let interface = Builder::from_rustdoc_json(target.join("doc/deploykit.json"))
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build();
    match interface {
        Ok(interface) => {
            let path = root().join("deploykit/public-api.txt");
            assert_data_eq!(interface.to_string(), Data::read_from(&path, None).raw());
        }
        Err(error) => {
            skip(&format!(
                "the JSON of this Rust's rustdoc is not that of {MINIMUM_NIGHTLY_RUST_VERSION}: {error}"
            ));
        }
    }
}
