//! Static files collected beside the live ones.

mod alone;
mod old;

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use deploykit::Host;
use deploykit::internal::django::{Collected, DjangoError, StaticFiles, StaticRecord, When};

use crate::support::django::Site;

/// Django 4.2 took another setting for it.
const MANIFEST: &str = "
import django
BACKEND = 'django.contrib.staticfiles.storage.ManifestStaticFilesStorage'
if django.VERSION < (4, 2):
    STATICFILES_STORAGE = BACKEND
else:
    STORAGES = {'default': {'BACKEND': 'django.core.files.storage.FileSystemStorage'}, 'staticfiles': {'BACKEND': BACKEND}}
";

const ELSEWHERE: &str = "
BACKEND = 'config.storage.Elsewhere'
if django.VERSION < (4, 2):
    STATICFILES_STORAGE = BACKEND
else:
    STORAGES['staticfiles']['BACKEND'] = BACKEND
";

fn site(settings: &str) -> Option<Site> {
    let site = Site::new()?;
    site.append("config/settings.py", settings);
    site.write("shop/static/shop/site.css", "body { background: url('dot.svg') }");
    site.write("shop/static/shop/dot.svg", "<svg/>");
    site.write("shop/static/shop/old.js", "old()");
    fs::create_dir(site.path("www")).unwrap();
    Some(site)
}

fn files(site: &Site) -> StaticFiles {
    StaticFiles {
        root: site.path("www/static"),
        collect: When::Auto,
        clear: When::Auto,
        keep_old: Duration::ZERO,
        record: None,
        deleted: Vec::new(),
        tracked: Default::default(),
        copied: false,
    }
}

fn prepare(site: &Site, files: &StaticFiles) -> Result<Collected, DjangoError> {
    files.prepare(&Host::new(), &mut site.boot())
}

fn listing(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        match path.is_dir() {
            true => names.extend(listing(&path).into_iter().map(|inner| format!("{name}/{inner}"))),
            false => names.push(name),
        }
    }
    names.sort();
    names
}

/// Collects for the first time and brings it live, with a file that nobody collected.
fn live(site: &Site) {
    let collected = prepare(site, &files(site)).unwrap();
    collected.swap.unwrap().perform().unwrap();
    site.write("www/static/CACHE/css/out.css", "cached");
    fs::set_permissions(site.path("www/static"), fs::Permissions::from_mode(0o2751)).unwrap();
}

#[test]
fn files_are_collected_beside_and_swapped_in_and_back() {
    let Some(site) = site(MANIFEST) else { return };
    live(&site);
    let before = listing(&site.path("www/static"));
    assert!(before.contains(&"staticfiles.json".to_owned()), "{before:?}");
    let mut session = site.boot();
    assert!(files(&site).prepare(&Host::new(), &mut session).unwrap().is_unchanged());
    assert!(!site.path("www/.static.deploykit-next").exists());

    site.write("shop/static/shop/site.css", "body { color: red }");
    site.write("shop/static/shop/new.js", "fresh()");
    fs::remove_file(site.path("shop/static/shop/old.js")).unwrap();
    let collected = files(&site).prepare(&Host::new(), &mut session).unwrap();
    assert_eq!(listing(&site.path("www/static")), before, "the live files are untouched");
    assert_eq!(site.read("www/static/shop/site.css"), "body { background: url('dot.svg') }");
    assert_eq!(collected.changed, ["shop/site.css", "staticfiles.json"]);
    assert!(collected.added.contains(&"shop/new.js".to_owned()), "{collected:?}");
    assert_eq!(collected.removed.len(), 2, "old.js and its hashed variant: {:?}", collected.removed);

    collected.swap.clone().unwrap().perform().unwrap();
    let now = listing(&site.path("www/static"));
    assert!(now.contains(&"CACHE/css/out.css".to_owned()), "nobody collected it: {now:?}");
    assert!(!now.iter().any(|name| name.contains("old")), "{now:?}");
    let hashed = now.iter().filter(|name| name.starts_with("shop/site.")).count();
    assert_eq!(hashed, 3, "a cached page asks for the old version: {now:?}");
    assert_eq!(fs::metadata(site.path("www/static")).unwrap().permissions().mode() & 0o7777, 0o2751);
    collected.back.unwrap().perform().unwrap();
    assert_eq!(listing(&site.path("www/static")), before);
}

#[test]
fn files_of_git_stay_and_the_others_are_placed_beside_them() {
    let Some(site) = site(MANIFEST) else { return };
    site.write("www/static/shop/site.css", "body { color: git }");
    site.write("www/static/shop/mine.css", "of git");
    site.write("www/static/shop/old.js", "stale()");
    site.write("www/static/stray.txt", "of nobody");
    let before = listing(&site.path("www/static"));
    let tracked = ["shop/site.css", "shop/mine.css"].map(str::to_owned).into();
    let files = StaticFiles { tracked, clear: When::Always, ..files(&site) };
    let place = inode(&site, "www/static");
    let collected = prepare(&site, &files).unwrap();
    assert!(collected.swap.is_none() && collected.removed.is_empty(), "{collected:?}");
    assert_eq!(collected.changed, ["shop/old.js"]);
    assert_eq!(listing(&site.path("www/static")), before);
    let (there, back) = (collected.placed.unwrap(), collected.placed_back.unwrap());
    for _ in 0..2 {
        there.perform().unwrap();
        assert_eq!(site.read("www/static/shop/site.css"), "body { color: git }");
        assert_eq!(site.read("www/static/shop/mine.css"), "of git");
        assert_eq!(site.read("www/static/shop/old.js"), "old()");
        assert!(site.path("www/static/shop/dot.svg").exists() && site.path("www/static/stray.txt").exists());
        assert_eq!(inode(&site, "www/static"), place, "the directory stays where it is");
    }
    back.perform().unwrap();
    assert_eq!(listing(&site.path("www/static")), before);
    assert_eq!(site.read("www/static/shop/old.js"), "stale()");
    // Nothing is left to do afterwards, though the file of git is not what would be collected.
    there.perform().unwrap();
    let again = prepare(&site, &files).unwrap();
    assert!(again.is_unchanged(), "{again:?}");

    // What only keeps a directory in a commit is no file to speak of: it stays, and all is swapped.
    site.write("www/static/.gitkeep", "");
    let files = StaticFiles { tracked: [".gitkeep".to_owned()].into(), ..files };
    let collected = prepare(&site, &files).unwrap();
    collected.swap.unwrap().perform().unwrap();
    assert!(site.path("www/static/.gitkeep").exists() && !site.path("www/static/stray.txt").exists());
}

/// Lets whatever follows use this class of the project's own, based on Django's storage with a manifest.
fn own_storage(site: &Site, body: &str) {
    let class = "from django.contrib.staticfiles.storage import ManifestStaticFilesStorage\n\n\n\
                 class Own(ManifestStaticFilesStorage):\n";
    site.write("config/storage.py", &format!("{class}    {body}\n"));
    site.append("config/settings.py", &ELSEWHERE.replace("Elsewhere", "Own"));
}

fn inode(site: &Site, path: &str) -> u64 {
    fs::metadata(site.path(path)).unwrap().ino()
}

/// Returns the live file whose name begins and ends so.
fn hashed(site: &Site, beginning: &str, ending: &str) -> String {
    let mut names = listing(&site.path("www/static"));
    names.retain(|name| {
        name.starts_with(beginning) && name.ends_with(ending) && name.len() > beginning.len() + ending.len()
    });
    assert_eq!(names.len(), 1, "{names:?}");
    format!("www/static/{}", names.remove(0))
}

#[test]
fn what_stays_is_linked_and_what_differs_is_collected() {
    let Some(site) = site(MANIFEST) else { return };
    // As large sites do: only options.
    own_storage(&site, "manifest_strict = False");
    live(&site);
    let dot = hashed(&site, "shop/dot.", ".svg");
    let before =
        [inode(&site, "www/static/shop/dot.svg"), inode(&site, &dot), inode(&site, "www/static/shop/old.js")];
    // Another text of the same age or older, as packages bring them.
    site.write("shop/static/shop/old.js", "new()");
    let long_ago = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH);
    File::options()
        .append(true)
        .open(site.path("shop/static/shop/old.js"))
        .unwrap()
        .set_times(long_ago)
        .unwrap();
    let collected = prepare(&site, &files(&site)).unwrap();
    assert_eq!(collected.changed, ["shop/old.js", "staticfiles.json"]);
    assert_eq!(site.read("www/static/shop/old.js"), "old()", "nothing is written into the live files");
    collected.swap.unwrap().perform().unwrap();
    let after =
        [inode(&site, "www/static/shop/dot.svg"), inode(&site, &dot), inode(&site, "www/static/shop/old.js")];
    assert_eq!(before[..2], after[..2], "the same files as before");
    assert_ne!(before[2], after[2]);
    assert_eq!(site.read("www/static/shop/old.js"), "new()");
}

#[test]
fn a_source_that_is_named_like_a_copy_is_compared_with_itself() {
    let Some(site) = site(MANIFEST) else { return };
    site.write("shop/static/shop/old.0123456789ab.js", "old()");
    live(&site);
    site.write("shop/static/shop/old.0123456789ab.js", "new()");
    prepare(&site, &files(&site)).unwrap().swap.unwrap().perform().unwrap();
    assert_eq!(site.read("www/static/shop/old.0123456789ab.js"), "new()");
}

#[test]
fn a_copy_that_was_damaged_is_made_anew() {
    let Some(site) = site(MANIFEST) else { return };
    live(&site);
    let dot = hashed(&site, "shop/dot.", ".svg");
    site.write(&dot, "<sv");
    site.write("shop/static/shop/old.js", "new()");
    let collected = prepare(&site, &files(&site)).unwrap();
    assert_eq!(site.read(&dot), "<sv", "nothing is written into the live files");
    collected.swap.unwrap().perform().unwrap();
    assert_eq!(site.read(&dot), "<svg/>");
}

#[test]
fn what_was_collected_as_a_link_becomes_a_file_when_it_is_collected_again() {
    let Some(site) = site(MANIFEST) else { return };
    live(&site);
    let dot = site.path("www/static/shop/dot.svg");
    fs::remove_file(&dot).unwrap();
    symlink(site.path("shop/static/shop/dot.svg"), &dot).unwrap();
    assert!(prepare(&site, &files(&site)).unwrap().is_unchanged());
    site.write("shop/static/shop/old.js", "new()");
    prepare(&site, &files(&site)).unwrap().swap.unwrap().perform().unwrap();
    assert!(dot.is_file() && !dot.is_symlink());
}

#[test]
fn a_storage_with_ways_of_its_own_collects_everything() {
    let Some(site) = site(MANIFEST) else { return };
    // It writes into what it finds: a link would reach the live file.
    let body = "def post_process(self, paths, **options):\n        \
                yield from super().post_process(paths, **options)\n        \
                open(self.path('shop/dot.svg'), 'a').write('<!-- own -->')";
    own_storage(&site, body);
    live(&site);
    assert_eq!(site.read("www/static/shop/dot.svg"), "<svg/><!-- own -->");
    let before = inode(&site, "www/static/shop/dot.svg");
    site.write("shop/static/shop/dot.svg", "<svg/><!-- own -->");
    site.write("shop/static/shop/old.js", "new()");
    let collected = prepare(&site, &files(&site)).unwrap();
    assert_eq!(site.read("www/static/shop/dot.svg"), "<svg/><!-- own -->");
    collected.swap.unwrap().perform().unwrap();
    assert_ne!(inode(&site, "www/static/shop/dot.svg"), before);
    assert_eq!(site.read("www/static/shop/dot.svg"), "<svg/><!-- own --><!-- own -->");
}

#[test]
fn what_whitenoise_compressed_is_not_written_into() {
    let Some(site) = site(MANIFEST) else { return };
    let backend = "whitenoise.storage.CompressedManifestStaticFilesStorage";
    site.append("config/settings.py", &ELSEWHERE.replace("config.storage.Elsewhere", backend));
    let long = "p { color: red }\n".repeat(200);
    site.write("shop/static/shop/long.css", &long);
    site.write("shop/static/shop/plain.txt", &long);
    live(&site);
    let before = [inode(&site, "www/static/shop/plain.txt"), inode(&site, "www/static/shop/plain.txt.gz")];
    // A package may bring such a file itself, the same as the one that is live.
    fs::copy(site.path("www/static/shop/long.css.gz"), site.path("shop/static/shop/long.css.gz")).unwrap();
    let bytes = fs::read(site.path("www/static/shop/long.css.gz")).unwrap();
    site.write("shop/static/shop/long.css", &long.replace("red", "blue"));
    let collected = prepare(&site, &files(&site)).unwrap();
    assert_eq!(
        fs::read(site.path("www/static/shop/long.css.gz")).unwrap(),
        bytes,
        "the live file is as it was"
    );
    collected.swap.unwrap().perform().unwrap();
    assert_eq!(inode(&site, "www/static/shop/plain.txt"), before[0]);
    assert_ne!(inode(&site, "www/static/shop/plain.txt.gz"), before[1]);
    assert_ne!(fs::read(site.path("www/static/shop/long.css.gz")).unwrap(), bytes);
}

#[test]
fn a_stylesheet_that_names_a_missing_file_is_told_and_nothing_is_touched() {
    let Some(site) = site(MANIFEST) else { return };
    live(&site);
    let before = listing(&site.path("www/static"));
    site.write("shop/static/shop/site.css", "body { background: url('gone.svg') }");
    let error = prepare(&site, &files(&site)).unwrap_err();
    assert!(matches!(&error, DjangoError::Collect { .. }), "{error:?}");
    assert!(error.raised().unwrap().message.contains("shop/gone.svg"), "{error:?}");
    assert_eq!(listing(&site.path("www/static")), before);
    assert_eq!(site.read("www/static/shop/site.css"), "body { background: url('dot.svg') }");
}

#[test]
fn without_a_manifest_the_last_update_or_git_tells_what_is_obsolete() {
    let Some(site) = site("") else { return };
    live(&site);
    fs::remove_file(site.path("shop/static/shop/old.js")).unwrap();
    let mut session = site.boot();
    let mut prepare = |change: &dyn Fn(&mut StaticFiles)| {
        let mut files = files(&site);
        change(&mut files);
        files.prepare(&Host::new(), &mut session).unwrap()
    };
    assert!(prepare(&|_| ()).is_unchanged(), "nothing tells that it was collected");
    let old = ["shop/old.js".to_owned()];
    let deleted = prepare(&|files| files.deleted = vec!["shop/static/shop/old.js".into()]);
    assert_eq!(deleted.removed, old);
    let storage = deleted.record.storage.clone();
    let record = StaticRecord { storage, names: old.iter().cloned().collect(), ..StaticRecord::default() };
    assert_eq!(prepare(&|files| files.record = Some(record.clone())).removed, old);
    assert!(
        prepare(&|files| (files.record, files.clear) = (Some(record.clone()), When::Never)).is_unchanged()
    );
    let all = prepare(&|files| files.clear = When::Always);
    assert_eq!(all.removed, ["CACHE/css/out.css", "shop/old.js"]);
    assert!(prepare(&|files| (files.collect, files.clear) = (When::Never, When::Always)).is_unchanged());
    assert!(prepare(&|files| files.collect = When::Always).is_unchanged());
}

#[test]
fn what_the_site_wrote_meanwhile_is_not_lost() {
    let Some(site) = site("") else { return };
    live(&site);
    site.write("shop/static/shop/new.js", "fresh()");
    let collected = prepare(&site, &files(&site)).unwrap();
    site.write("www/static/CACHE/css/late.css", "late");
    assert_eq!(collected.late_files().unwrap().perform(&Host::new()).unwrap(), ["CACHE/css/late.css"]);
    assert!(collected.late_files().unwrap().perform(&Host::new()).unwrap().is_empty());
    collected.swap.clone().unwrap().perform().unwrap();
    assert_eq!(site.read("www/static/CACHE/css/late.css"), "late");
    assert!(collected.late_files().unwrap().perform(&Host::new()).unwrap().is_empty());
}

#[test]
fn a_link_to_the_static_files_stays_one() {
    let Some(site) = site("") else { return };
    fs::create_dir_all(site.path("data/static")).unwrap();
    std::os::unix::fs::symlink("../data/static", site.path("www/static")).unwrap();
    let collected = prepare(&site, &files(&site)).unwrap();
    collected.swap.unwrap().perform().unwrap();
    assert!(site.path("www/static").is_symlink());
    assert_eq!(site.read("data/static/shop/dot.svg"), "<svg/>");
}

#[test]
fn a_storage_of_its_own_place_is_refused() {
    let Some(site) = site(&format!("{MANIFEST}{ELSEWHERE}")) else { return };
    let text = "import os\nfrom django.contrib.staticfiles.storage import StaticFilesStorage\n\
        class Elsewhere(StaticFilesStorage):\n    def path(self, name):\n        return os.path.abspath(os.path.join('elsewhere', name))\n";
    site.write("config/storage.py", text);
    let error = prepare(&site, &files(&site)).unwrap_err();
    assert!(matches!(&error, DjangoError::NotRelocatable { .. }), "{error:?}");
    assert!(!site.path("elsewhere").exists());
}

#[test]
fn a_storage_that_was_used_during_the_imports_still_collects_beside() {
    let Some(site) = site(MANIFEST) else { return };
    site.append(
        "shop/models.py",
        "from django.contrib.staticfiles.storage import staticfiles_storage\nstaticfiles_storage.exists('x')\n",
    );
    prepare(&site, &files(&site)).unwrap();
    assert!(!site.path("www/static").exists());
}

/// A storage that does this with each file first.
fn slow(text: &str) -> Option<Site> {
    let site = site(&format!("{MANIFEST}{ELSEWHERE}"))?;
    let text = format!(
        "import os, signal, threading, time\nfrom django.contrib.staticfiles.storage import StaticFilesStorage\n\
         class Elsewhere(StaticFilesStorage):\n    def _save(self, name, content):\n        {text}\n        \
         return super()._save(name, content)\n"
    );
    site.write("config/storage.py", &text);
    Some(site)
}

#[test]
fn other_questions_are_answered_while_files_are_collected() {
    let wait = "assert os.getpriority(os.PRIO_PROCESS, 0) >= 10\n        until = time.time() + 60\n        while not os.path.exists('answered'):\n            \
                assert time.time() < until, 'nothing else was answered'\n            time.sleep(0.01)";
    let Some(site) = slow(wait) else { return };
    let (host, mut session) = (Host::new().with_low_priority(true), site.boot());
    let collecting = files(&site).begin(&host, &mut session).unwrap();
    assert!(!session.on("default").migrations(&host).unwrap().pending.is_empty());
    site.write("answered", "");
    let collected = collecting.finish(&host, &mut session).unwrap();
    assert_eq!(collected.added, ["shop/dot.svg", "shop/old.js", "shop/site.css"]);
    session.on("default").migrations(&host).unwrap();
    assert_eq!(session.facts(&host).unwrap().static_files.root, Some(site.path("www/static")));
}

#[test]
fn a_site_with_threads_of_its_own_collects_when_it_is_waited_for() {
    let Some(site) = slow("assert threading.active_count() > 1, 'it is a fork'") else { return };
    site.append(
        "shop/models.py",
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n",
    );
    let collected = prepare(&site, &files(&site)).unwrap();
    assert_eq!(collected.added, ["shop/dot.svg", "shop/old.js", "shop/site.css"]);
}

#[test]
fn a_collection_that_is_killed_is_told_and_leaves_nothing() {
    let Some(site) = slow("os.kill(os.getpid(), signal.SIGKILL)") else { return };
    let error = prepare(&site, &files(&site)).unwrap_err();
    assert!(matches!(&error, DjangoError::Collect { .. }), "{error:?}");
    let told = "its process ended with status 9 before it answered";
    assert_eq!(error.raised().unwrap().message, told);
    assert!(fs::read_dir(site.path("www")).unwrap().next().is_none());
}

#[test]
fn no_room_beside_and_no_static_files_are_told() {
    let Some(site) = site("") else { return };
    let mut files = files(&site);
    files.root = site.path("nowhere/static");
    let error = prepare(&site, &files).unwrap_err();
    assert!(matches!(&error, DjangoError::NoRoomBeside { .. }), "{error:?}");
    site.append("config/settings.py", "INSTALLED_APPS.remove('django.contrib.staticfiles')\n");
    assert!(matches!(prepare(&site, &files).unwrap_err(), DjangoError::NoStaticFiles));
}

#[test]
fn static_files_that_could_not_be_exchanged_are_refused() {
    let Some(site) = site("") else { return };
    fs::create_dir_all(site.path("www/static")).unwrap();
    let Some(_disk) = crate::support::disk::Disk::around(&site.path("www/static")) else { return };
    let error = prepare(&site, &files(&site)).unwrap_err();
    assert!(matches!(&error, DjangoError::NoRoomBeside { .. }), "{error:?}");
    assert!(deploykit::error_chain(&error).ends_with("it is a mount point"), "{error:?}");
    assert_eq!(fs::read_dir(site.path("www")).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn files_are_collected_and_kept_whatever_their_names_are() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    for storage in ["", MANIFEST] {
        let Some(site) = site(storage) else { return };
        let file = |directory: &str, name: &[u8]| site.path(directory).join(OsStr::from_bytes(name));
        for name in [&b"caf\xe9.txt"[..], b"-rf.txt", b"in space.txt"] {
            fs::write(file("shop/static/shop", name), "collected").unwrap();
        }
        let uploads = [&b"\xfcpload"[..], b"line\nbreak", b"tab\t", b"-x", b" "];
        fs::create_dir_all(site.path("www/static/uploads")).unwrap();
        for name in uploads {
            fs::write(file("www/static/uploads", name), "uploaded").unwrap();
        }
        let collected = prepare(&site, &files(&site)).unwrap();
        assert!(
            collected
                .added
                .contains(&deploykit::internal::names::text(OsStr::from_bytes(b"shop/caf\xe9.txt")))
        );
        assert!(collected.removed.is_empty(), "{:?}", collected.removed);
        // Another one comes in meanwhile.
        fs::write(file("www/static/uploads", b"l\xe4te"), "uploaded").unwrap();
        let (late, swap, back) = (
            collected.late_files().unwrap(),
            collected.swap.clone().unwrap(),
            collected.back.clone().unwrap(),
        );
        let journalled = serde_json::to_string(&late).unwrap();
        let late: deploykit::internal::django::LateFiles = serde_json::from_str(&journalled).unwrap();
        late.perform(&Host::new()).unwrap();
        swap.perform().unwrap();
        for name in uploads.iter().chain(&[&b"l\xe4te"[..]]) {
            assert_eq!(fs::read(file("www/static/uploads", name)).unwrap(), b"uploaded", "{name:?}");
        }
        assert_eq!(fs::read(file("www/static/shop", b"caf\xe9.txt")).unwrap(), b"collected");
        // Nothing is new the next time.
        let again = StaticFiles { record: Some(collected.record.clone()), ..files(&site) };
        let again = prepare(&site, &again).unwrap();
        assert!(again.is_unchanged(), "{:?} {:?} {:?}", again.added, again.changed, again.removed);
        back.perform().unwrap();
        assert!(!site.path("www/static/shop/site.css").exists());
        assert_eq!(fs::read(file("www/static/uploads", uploads[0])).unwrap(), b"uploaded");

        // Bytecode of such sources is brought, too.
        let source = PathBuf::from(OsStr::from_bytes(b"shop/caf\xe9.py"));
        fs::write(site.path("").join(&source), "x = 1\n").unwrap();
        let compiled = site.boot().compile(&Host::new(), &site.path(""), &site.path(""), &[source]).unwrap();
        assert!(site.path("").join(&compiled[0]).exists() && compiled[0].to_str().is_none(), "{compiled:?}");
    }
}
