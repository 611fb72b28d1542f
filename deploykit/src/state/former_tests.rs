//! Journals and states that earlier versions wrote have other names.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::KeptStatic;
use crate::action::Action;
use crate::journal::Entry;

/// Reads what an earlier version wrote, and checks that it is written with the names of today.
fn is_now<T: Serialize + DeserializeOwned>(former: &str, today: &str) {
    let read: T = serde_json::from_str(former).unwrap_or_else(|error| panic!("{former}: {error}"));
    assert_eq!(serde_json::to_string(&read).unwrap(), today);
}

#[test]
fn what_earlier_versions_wrote_is_read() {
    // The step, the switch, and both kinds of its target.
    is_now::<Entry>(
        r#"{"entry":"step_started","step":"environment","phase":"window","time":"2026-11-22T18:30:00Z","actions":[{"action":"switch_environment","virtualenv":"/srv/venv","target":{"environment":"/srv/.deploykit/environments/0123456789abcdef"},"kept":"/srv/.venv.deploykit-original"}],"undo":[{"action":"switch_environment","virtualenv":"/srv/venv","target":"folder","kept":"/srv/.venv.deploykit-original"}]}"#,
        r#"{"entry":"step_started","step":"virtualenv","phase":"window","time":"2026-11-22T18:30:00Z","actions":[{"action":"switch_virtualenv","virtualenv":"/srv/venv","target":{"virtualenv":"/srv/.deploykit/environments/0123456789abcdef"},"kept":"/srv/.venv.deploykit-original"}],"undo":[{"action":"switch_virtualenv","virtualenv":"/srv/venv","target":"directory","kept":"/srv/.venv.deploykit-original"}]}"#,
    );
    is_now::<Entry>(
        r#"{"entry":"step_started","step":"code","phase":"window","time":"2026-11-22T18:30:00Z","actions":[{"action":"place_byte_code","from":"/srv/.site.deploykit-next","to":"/srv/site","files":["shop/__pycache__/a.pyc"]}],"undo":[{"action":"remove_byte_code","from":"/srv/.site.deploykit-next","to":"/srv/site","files":["shop/__pycache__/a.pyc"]}]}"#,
        r#"{"entry":"step_started","step":"code","phase":"window","time":"2026-11-22T18:30:00Z","actions":[{"action":"place_bytecode","from":"/srv/.site.deploykit-next","to":"/srv/site","files":["shop/__pycache__/a.pyc"]}],"undo":[{"action":"remove_bytecode","from":"/srv/.site.deploykit-next","to":"/srv/site","files":["shop/__pycache__/a.pyc"]}]}"#,
    );
    is_now::<Action>(
        r#"{"action":"link_late_files","swap":{"live":"/srv/static","aside":"/srv/.static.deploykit-next","wanted":7},"removed":["old.css"],"folders":{"":5,"CACHE":0},"others":["CACHE/"],"steps_until":null}"#,
        r#"{"action":"link_late_files","swap":{"live":"/srv/static","aside":"/srv/.static.deploykit-next","wanted":7},"removed":["old.css"],"directories":{"":5,"CACHE":0},"others":["CACHE/"],"steps_until":null}"#,
    );
    is_now::<Action>(
        r#"{"action":"build_environment","environment":"/srv/.deploykit/environments/0123456789abcdef","virtualenv":"/srv/venv","base":"/usr/bin/python3","python":"3.11","prompt":"venv","system_site_packages":false,"tool":"pip","requirements":["requirements.txt"],"fingerprint":"f","directory":"/srv/site","extra_args":[],"packages":{},"seeds":{"pip":"24.0"},"newer_pip":null,"deadline_ms":1000}"#,
        r#"{"action":"build_virtualenv","staged":"/srv/.deploykit/environments/0123456789abcdef","virtualenv":"/srv/venv","base":"/usr/bin/python3","python":"3.11","prompt":"venv","system_site_packages":false,"tool":"pip","requirements":["requirements.txt"],"fingerprint":"f","directory":"/srv/site","extra_args":[],"packages":{},"seeds":{"pip":"24.0"},"newer_pip":null,"deadline_ms":1000}"#,
    );
    is_now::<KeptStatic>(
        r#"{"folder":"/srv/.static.deploykit-20261122-1","added":["new.css"]}"#,
        r#"{"directory":"/srv/.static.deploykit-20261122-1","added":["new.css"]}"#,
    );
}
