//! Packs the Python that runs in a site, so that the library carries it as one small text.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::{env, fs};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::ZlibEncoder;

const MODULES: &str = "src/django/probe/deploykit_probe";
/// It takes the other modules out of the pack, so it is not in there.
const LOADER: &str = "loader";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={MODULES}");
    let mut sources = BTreeMap::new();
    for entry in fs::read_dir(MODULES)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "py") {
            let name =
                path.file_stem().and_then(|stem| stem.to_str()).ok_or("a module's name is not UTF-8")?;
            sources.insert(name.to_owned(), fs::read_to_string(&path)?);
        }
    }
    let loader = sources.remove(LOADER).ok_or("there is no loader")?;
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&serde_json::to_vec(&sources)?)?;
    let modules = STANDARD.encode(packed.finish()?);
    let program = PathBuf::from(env::var("OUT_DIR")?).join("probe.py");
    fs::write(program, format!("{loader}\n\nstart(\"{modules}\", requests)\n"))?;
    Ok(())
}
