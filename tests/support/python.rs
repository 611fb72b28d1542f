//! Virtualenvs, wheels and a package index for tests, all in one temporary directory and without a network.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use deploykit::internal::python::{Installer, Tool};
use deploykit::{Host, Variables};
use sha2::{Digest, Sha256};

/// Variables that a machine may set for pip and uv and that a test must not depend on.
const FOREIGN: [&str; 6] = [
    "PIP_FIND_LINKS",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_DISABLE_PIP_VERSION_CHECK",
    "PYTHONDONTWRITEBYTECODE",
    "UV_INDEX_URL",
];

/// A site's Python: a checkout with requirements, a directory of wheels, a virtualenv.
pub struct PythonSite {
    pub directory: tempfile::TempDir,
    pub checkout: PathBuf,
    pub wheels: PathBuf,
    pub virtualenv: PathBuf,
    pub virtualenvs: PathBuf,
    pub uv: Option<PathBuf>,
}

impl PythonSite {
    /// Makes a site with an empty virtualenv that has a pip.
    pub fn new() -> PythonSite {
        let directory = tempfile::Builder::new().prefix("deploykit-python-").tempdir().unwrap();
        // Services of other users may use an environment: the directory above it is open to them.
        fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let path = |name: &str| directory.path().join(name);
        let site = PythonSite {
            checkout: path("site"),
            wheels: path("wheels"),
            virtualenv: path("venv"),
            virtualenvs: path("virtualenvs"),
            uv: super::program("uv"),
            directory,
        };
        fs::create_dir_all(&site.checkout).unwrap();
        fs::create_dir_all(&site.wheels).unwrap();
        make_virtualenv(&site.virtualenv);
        site
    }

    /// Returns a host that sees nothing of this machine's settings for pip and uv.
    pub fn host(&self) -> Host {
        self.host_with(&[])
    }

    /// Likewise, with more variables.
    pub fn host_with(&self, more: &[(&str, &str)]) -> Host {
        let mut variables = Variables::new();
        for name in FOREIGN {
            // An empty value means for pip that it is not set.
            variables.set(name, "");
        }
        variables.set("PIP_CONFIG_FILE", "/dev/null");
        // pip asks the real index for its own version, even with `--no-index` in a requirements file.
        variables.set("PIP_DISABLE_PIP_VERSION_CHECK", "1");
        variables.set("PIP_CACHE_DIR", self.directory.path().join("cache").to_string_lossy());
        variables.set("UV_CACHE_DIR", self.directory.path().join("uv-cache").to_string_lossy());
        variables.set("UV_NO_CONFIG", "1");
        variables.set("HOME", self.directory.path().to_string_lossy());
        if let Some(directory) = self.uv.as_deref().and_then(Path::parent) {
            let path = std::env::var("PATH").unwrap_or_default();
            variables.set("PATH", format!("{}:{path}", directory.display()));
        }
        for (name, value) in more {
            variables.set(*name, *value);
        }
        let transcript = fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.path().join("transcript"))
            .unwrap();
        Host::new().with_variables(variables).with_transcript(transcript)
    }

    /// Returns what programs were run since the last call, and what they said.
    pub fn transcript(&self) -> String {
        let path = self.directory.path().join("transcript");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::File::options().write(true).truncate(true).open(&path);
        text
    }

    /// Writes the requirements; the wheels are found by a line of their own.
    pub fn require(&self, text: &str) -> PathBuf {
        self.requirements(&format!("--no-index\n--find-links {}\n{text}", self.wheels.display()))
    }

    /// Writes the requirements as they are.
    pub fn requirements(&self, text: &str) -> PathBuf {
        let path = self.checkout.join("requirements.txt");
        fs::write(&path, text).unwrap();
        path
    }

    /// Installs into the live virtualenv, by hand.
    pub fn install_by_hand(&self, args: &[&str]) {
        let mut command = Command::new(self.virtualenv.join("bin/python"));
        command.args(["-m", "pip", "install", "-q", "--disable-pip-version-check"]);
        run(command.args(["--no-index", "--find-links"]).arg(&self.wheels).args(args));
    }

    /// Runs a program of the live virtualenv and returns what it prints.
    pub fn live(&self, program: &str, args: &[&str]) -> String {
        run(Command::new(self.virtualenv.join("bin").join(program)).args(args)).trim().to_owned()
    }

    /// Makes a wheel of one module, whose `VERSION` it is, with a console script of the same name that prints it.
    pub fn wheel(&self, name: &str, version: &str, requires: &[&str]) -> PathBuf {
        let source = format!("VERSION = {version:?}\n\n\ndef main():\n    print({name:?}, VERSION)\n");
        self.wheel_of(name, version, requires, &source)
    }

    /// Likewise, with the module's source; lines in `requires` may be any `Name: value` of the metadata.
    pub fn wheel_of(&self, name: &str, version: &str, requires: &[&str], source: &str) -> PathBuf {
        let mut metadata = format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n");
        for line in requires {
            let line =
                if line.contains(": ") { (*line).to_owned() } else { format!("Requires-Dist: {line}") };
            metadata.push_str(&line);
            metadata.push('\n');
        }
        let info = format!("{name}-{version}.dist-info");
        let files = BTreeMap::from([
            (format!("{name}.py"), source.to_owned()),
            (format!("{info}/METADATA"), metadata),
            (
                format!("{info}/WHEEL"),
                "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n".to_owned(),
            ),
            (format!("{info}/entry_points.txt"), format!("[console_scripts]\n{name} = {name}:main\n")),
        ]);
        let line = |(file, text): (&String, &String)| {
            let hash = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(text));
            format!("{file},sha256={hash},{}\n", text.len())
        };
        let mut record: String = files.iter().map(line).collect();
        record.push_str(&format!("{info}/RECORD,,\n"));
        let path = self.wheels.join(format!("{name}-{version}-py3-none-any.whl"));
        let mut archive = Archive::default();
        for (file, text) in &files {
            archive.add(file, text.as_bytes());
        }
        archive.add(&format!("{info}/RECORD"), record.as_bytes());
        fs::write(&path, archive.finish()).unwrap();
        path
    }
}

/// Returns the tools that are installed, with the setting that asks for each.
pub fn tools() -> Vec<(Installer, Tool)> {
    let uv = super::program("uv").map(|program| (Installer::Uv, Tool::Uv { program }));
    [(Installer::Pip, Tool::Pip)].into_iter().chain(uv).collect()
}

/// Makes a virtualenv as `python3 -m venv` does. The first one is made once; the others are made without pip, which takes
/// a tenth of the time, and get a copy of its pip.
pub fn make_virtualenv(path: &Path) {
    static MODEL: OnceLock<tempfile::TempDir> = OnceLock::new();
    let model = MODEL.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        run(Command::new("python3").args(["-m", "venv"]).arg(directory.path().join("venv")));
        directory
    });
    run(Command::new("python3").args(["-m", "venv", "--without-pip"]).arg(path));
    let packages = |venv: &Path| {
        let library = fs::read_dir(venv.join("lib")).unwrap().next().unwrap().unwrap().path();
        library.join("site-packages")
    };
    let from = packages(&model.path().join("venv"));
    run(Command::new("cp").arg("-a").arg(format!("{}/.", from.display())).arg(packages(path)));
    for script in fs::read_dir(model.path().join("venv/bin")).unwrap().map(|entry| entry.unwrap().path()) {
        let name = script.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("pip") {
            fs::copy(&script, path.join("bin").join(name)).unwrap();
        }
    }
}

/// Runs a program with a deadline and returns its output; it must succeed.
pub fn run(command: &mut Command) -> String {
    let mut limited = Command::new("timeout");
    limited.arg("120").arg(command.get_program()).args(command.get_args());
    FOREIGN.iter().for_each(|name| {
        limited.env_remove(name);
    });
    let output = limited.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Returns a hash of a tree: names, links, modes, contents; compiled files are left out, which Python may write when it
/// only reads.
pub fn tree_hash(path: &Path) -> String {
    fn add(path: &Path, hash: &mut Sha256) {
        use std::os::unix::fs::PermissionsExt;
        let found = fs::symlink_metadata(path).unwrap();
        hash.update(path.to_string_lossy().as_bytes());
        if found.is_symlink() {
            hash.update(fs::read_link(path).unwrap().to_string_lossy().as_bytes());
            return;
        }
        hash.update(found.permissions().mode().to_le_bytes());
        if found.is_file() {
            hash.update(fs::read(path).unwrap());
            return;
        }
        let mut entries: Vec<PathBuf> =
            fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for entry in entries.iter().filter(|entry| !entry.ends_with("__pycache__")) {
            add(entry, hash);
        }
    }
    let mut hash = Sha256::new();
    add(path, &mut hash);
    format!("{:x?}", hash.finalize())
}

/// A zip archive without compression.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    directory: Vec<u8>,
    count: u16,
}

impl Archive {
    fn add(&mut self, name: &str, contents: &[u8]) {
        let offset = u32::try_from(self.bytes.len()).unwrap();
        let size = u32::try_from(contents.len()).unwrap().to_le_bytes();
        // Version 2.0, no flags, stored, 1 January 1980.
        let mut common = vec![20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0];
        common.extend(crc32(contents).to_le_bytes());
        common.extend(size);
        common.extend(size);
        common.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
        common.extend([0, 0]);
        self.bytes.extend(b"PK\x03\x04");
        self.bytes.extend(&common);
        self.bytes.extend(name.as_bytes());
        self.bytes.extend(contents);
        self.directory.extend(b"PK\x01\x02\x14\x03");
        self.directory.extend(&common);
        self.directory.extend([0, 0, 0, 0, 0, 0]);
        self.directory.extend((0o100_644_u32 << 16).to_le_bytes());
        self.directory.extend(offset.to_le_bytes());
        self.directory.extend(name.as_bytes());
        self.count += 1;
    }

    fn finish(mut self) -> Vec<u8> {
        let offset = u32::try_from(self.bytes.len()).unwrap();
        let size = u32::try_from(self.directory.len()).unwrap();
        self.bytes.append(&mut self.directory);
        self.bytes.extend(b"PK\x05\x06\0\0\0\0");
        self.bytes.extend(self.count.to_le_bytes());
        self.bytes.extend(self.count.to_le_bytes());
        self.bytes.extend(size.to_le_bytes());
        self.bytes.extend(offset.to_le_bytes());
        self.bytes.extend([0, 0]);
        self.bytes
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |mut crc, byte| {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
        }
        crc
    })
}

/// A package index over HTTP that serves a directory of wheels; or one that accepts and never answers.
pub struct Index {
    pub url: String,
    stop: Arc<AtomicBool>,
    address: std::net::SocketAddr,
}

impl Index {
    /// Serves the wheels in `directories`.
    pub fn serve(directories: Vec<PathBuf>) -> Index {
        Index::start(Some(directories), None)
    }

    /// Serves them to a user with a password only.
    pub fn private(directories: Vec<PathBuf>, user: &str, password: &str) -> Index {
        Index::start(Some(directories), Some(BASE64_STANDARD.encode(format!("{user}:{password}"))))
    }

    /// Accepts connections and stays silent.
    pub fn silent() -> Index {
        Index::start(None, None)
    }

    fn start(directories: Option<Vec<PathBuf>>, person: Option<String>) -> Index {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                match (&directories, stream) {
                    (Some(directories), Ok(stream)) => {
                        let (directories, person) = (directories.clone(), person.clone());
                        std::thread::spawn(move || answer(stream, &directories, person.as_deref()));
                    }
                    (None, Ok(stream)) => held.push(stream),
                    _ => {}
                }
            }
        });
        Index { url: format!("http://{address}/simple"), stop, address }
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn answer(mut stream: TcpStream, directories: &[PathBuf], person: Option<&str>) -> Option<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer).ok()? {
            0 => return None,
            count => request.extend(&buffer[..count]),
        }
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let mut words = request.split_whitespace();
    let (method, path) = (words.next()?, words.next()?.to_owned());
    let name = path.trim_end_matches('/').rsplit('/').next()?;
    let mut files = directories
        .iter()
        .filter_map(|directory| fs::read_dir(directory).ok())
        .flatten()
        .filter_map(Result::ok);
    let knows = |line: &str| {
        let (name, value) = line.split_once(':').unwrap_or_default();
        name.eq_ignore_ascii_case("authorization") && value.trim().strip_prefix("Basic ") == person
    };
    let (status, kind, body) = if person.is_some() && !request.lines().any(knows) {
        ("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"packages\"", "text/plain", Vec::new())
    } else if path.starts_with("/simple") {
        let mut links = String::new();
        for path in files.map(|entry| entry.path()) {
            let file = path.file_name()?.to_str()?;
            let project = file.split('-').next().unwrap_or_default();
            if deploykit::internal::python::normalise(project) == deploykit::internal::python::normalise(name)
            {
                let hash: String =
                    Sha256::digest(fs::read(&path).ok()?).iter().map(|byte| format!("{byte:02x}")).collect();
                links.push_str(&format!("<a href=\"/files/{file}#sha256={hash}\">{file}</a>\n"));
            }
        }
        let status = if links.is_empty() { "404 Not Found" } else { "200 OK" };
        (status, "text/html", format!("<!DOCTYPE html><html><body>{links}</body></html>").into_bytes())
    } else {
        let file = files.find(|entry| entry.file_name().to_string_lossy() == name)?;
        ("200 OK", "application/octet-stream", fs::read(file.path()).ok()?)
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    if method != "HEAD" {
        stream.write_all(&body).ok()?;
    }
    Some(())
}
