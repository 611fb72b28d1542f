use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn announcement(time_zone: &str, status_file: Option<&str>) -> Announcement {
    Announcement {
        project: Project::new("/v/bin/python", "/s", "s"),
        on: ["maintenanceon", "{time}", "--date", "{date}", "--message", "{message}"]
            .map(str::to_owned)
            .to_vec(),
        off: vec!["maintenanceoff".into()],
        time_zone: time_zone.into(),
        status_file: status_file.map(PathBuf::from),
    }
}

fn on(start: &str, notice: u64) -> Goal {
    Goal::On { start: at(start), message: Some("Back soon".into()), notice: Duration::from_secs(notice) }
}

fn maintenance(goal: Goal) -> Maintenance {
    Maintenance {
        goal,
        announcement: Some(announcement("America/Los_Angeles", Some("/m.json"))),
        page: Some(Page { path: "/www/maintenance.html".into(), html: None }),
    }
}

fn facts(announced: Option<&str>, page: bool) -> Facts {
    let announced = announced.map(|time| StatusFile {
        at: Some(at(time)),
        message: None,
        contents: format!("{{\"timestamp\": {}}}", at(time).as_second()),
    });
    let status = Status { announced, page: page.then(|| "<p>theirs</p>".to_owned()) };
    Facts { now: at("2026-07-01T12:00:00Z"), status, directory_missing: false }
}

fn change(check: Check) -> Change {
    let Check::Change(change) = check else { panic!("{check:?}") };
    change
}

#[test]
fn it_is_announced_in_the_sites_own_time() {
    let change = change(decide(&maintenance(on("2026-07-02T02:30:00Z", 1200)), &facts(None, false)).unwrap());
    let Action::Announce(announce) = &change.actions[0] else { panic!() };
    assert_eq!(announce.argv, ["maintenanceon", "19:30", "--date", "2026-07-01", "--message", "Back soon"]);
    assert_eq!(announce.expected, Expected::On { at: at("2026-07-02T02:30:00Z") });
    let Action::WriteFile { contents, .. } = &change.actions[1] else { panic!() };
    assert!(contents.contains("<p>Back soon</p>"));
    assert!(matches!(&change.undo[0], Action::RemoveFile { .. }), "the page goes first");
    assert!(matches!(&change.undo[1], Action::Announce(announce) if announce.expected == Expected::Off));
}

#[test]
fn a_start_within_the_notice_is_refused() {
    let error = decide(&maintenance(on("2026-07-01T12:19:30Z", 1230)), &facts(None, false)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "maintenance at 2026-07-01T12:19:30Z would be too soon: the earliest time is 2026-07-01T12:21:00Z"
    );
}

#[test]
fn seconds_are_rounded_up_so_that_it_never_begins_before_it_was_announced() {
    for (start, announced) in [
        ("2026-07-01T12:00:00Z", "2026-07-01T12:00:00Z"),
        ("2026-07-01T12:00:01Z", "2026-07-01T12:01:00Z"),
        ("2026-07-01T12:00:00.5Z", "2026-07-01T12:01:00Z"),
        ("1969-12-31T23:59:30Z", "1970-01-01T00:00:00Z"),
    ] {
        assert_eq!(announced_time(at(start)), at(announced), "{start}");
    }
}

#[test]
fn what_was_on_already_is_kept_and_left_on() {
    let check =
        decide(&maintenance(on("2026-07-01T13:00:00Z", 0)), &facts(Some("2026-07-01T11:00:00Z"), true));
    assert_eq!(check.unwrap(), Check::Unchanged { reason: "maintenance is on already".into() });
    let soon = facts(Some("2026-07-01T12:30:00Z"), true);
    let check = decide(&maintenance(on("2026-07-01T13:00:00Z", 0)), &soon);
    let reason =
        "maintenance is announced for 2026-07-01T12:30:00Z already; end that before you announce a later one";
    assert_eq!(
        check.unwrap(),
        Check::Unchanged { reason: reason.into() },
        "whoever relies on it is not surprised"
    );
}

#[test]
fn one_that_was_announced_for_later_is_brought_forward_and_put_back_as_it_was() {
    let facts = facts(Some("2026-07-01T20:00:00Z"), true);
    let change = change(decide(&maintenance(on("2026-07-01T13:00:00Z", 1200)), &facts).unwrap());
    assert_eq!(change.actions.len(), 1, "their page stays");
    let Action::WriteFile { path, contents, .. } = &change.undo[0] else { panic!("{:?}", change.undo) };
    assert_eq!((path.as_path(), contents), (Path::new("/m.json"), &facts.status.announced.unwrap().contents));
    assert_eq!(change.undo.len(), 1);
}

#[test]
fn the_hour_that_comes_twice_is_refused() {
    // 2026-11-01 01:30 in Los Angeles is 08:30 UTC first and 09:30 UTC again.
    let first = decide(&maintenance(on("2026-11-01T08:30:00Z", 0)), &facts(None, false));
    assert!(first.is_ok());
    let second = decide(&maintenance(on("2026-11-01T09:30:00Z", 0)), &facts(None, false)).unwrap_err();
    assert_eq!(
        second.to_string(),
        "2026-11-01T09:30:00Z is ambiguous in `America/Los_Angeles`: clocks are set back that night"
    );
}

#[test]
fn an_unknown_time_zone_is_named() {
    let mut settings = maintenance(on("2026-07-01T13:00:00Z", 0));
    settings.announcement = Some(announcement("Mars/Olympus", None));
    let error = decide(&settings, &facts(None, false)).unwrap_err();
    assert_eq!(error.to_string(), "the time zone `Mars/Olympus` is not known");
}

#[test]
fn a_page_without_a_directory_is_refused() {
    let facts = Facts { directory_missing: true, ..facts(None, false) };
    let error = decide(&maintenance(on("2026-07-01T13:00:00Z", 0)), &facts).unwrap_err();
    assert_eq!(error.to_string(), "there is no directory `/www` for the maintenance page");
}

#[test]
fn turning_off_removes_the_page_first_and_can_be_taken_back() {
    let change = change(decide(&maintenance(Goal::Off), &facts(Some("2026-07-01T11:00:00Z"), true)).unwrap());
    assert!(matches!(&change.actions[0], Action::RemoveFile { .. }));
    assert!(matches!(&change.actions[1], Action::Announce(announce) if announce.expected == Expected::Off));
    assert!(change.undo.iter().all(|action| matches!(action, Action::WriteFile { .. })));
    assert_eq!(change.undo.len(), 2);
    let check = decide(&maintenance(Goal::Off), &facts(None, false)).unwrap();
    assert_eq!(check, Check::Unchanged { reason: "maintenance is off already".into() });
}

#[test]
fn without_a_status_file_turning_off_runs_the_command() {
    let mut settings = maintenance(Goal::Off);
    settings.announcement = Some(announcement("UTC", None));
    settings.page = None;
    let change = change(decide(&settings, &facts(None, false)).unwrap());
    assert_eq!(change.actions.len(), 1);
    assert!(change.irreversible.is_some());
}

#[test]
fn a_message_cannot_become_markup_of_the_default_page_or_a_placeholder() {
    let page = default_page("<script>alert('{time}')</script> & \"co\"");
    assert!(
        page.contains("&lt;script&gt;alert(&#39;{time}&#39;)&lt;/script&gt; &amp; &quot;co&quot;"),
        "{page}"
    );
    let expanded = |message| expand(&announcement("UTC", None), at("2026-07-01T13:00:00Z"), message).unwrap();
    assert_eq!(expanded(Some("{date}")).last().unwrap(), "{date}");
    assert_eq!(expanded(None), ["maintenanceon", "13:00", "--date", "2026-07-01"]);
}

#[test]
fn the_settings_survive_the_journal() {
    let settings = maintenance(on("2026-07-01T13:00:00Z", 1200));
    let text = serde_json::to_string(&settings).unwrap();
    assert!(text.contains("\"notice_ms\":1200000"), "{text}");
    assert_eq!(serde_json::from_str::<Maintenance>(&text).unwrap(), settings);
}
