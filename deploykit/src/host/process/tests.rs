use super::*;
use crate::host::Cancel;

fn sh(script: &str) -> Command {
    Command::new("sh").args(["-c", script])
}

#[test]
fn both_streams_and_the_code_arrive() {
    let mut lines = Vec::new();
    let error = Host::new()
        .run_with_lines(&sh("echo out; echo err >&2; printf half; exit 3"), &mut |stream, line| {
            lines.push((stream, line.to_owned()));
        })
        .unwrap_err();
    assert_eq!(error.code(), Some(3));
    let mut tail = error.tail().to_vec();
    tail.sort();
    assert_eq!(tail, ["err", "half", "out"]);
    assert!(lines.contains(&(Stream::Stderr, "err".to_owned())));
}

#[test]
fn a_grandchild_that_keeps_the_pipe_does_not_hold_us() {
    let output = Host::new().run(&sh("sleep 300 & echo $!")).unwrap();
    let pid = output.stdout.trim().parse().ok().and_then(Pid::from_raw).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
}

#[test]
fn a_deadline_ends_the_whole_group() {
    // The deadline passes long after the line has come, however busy the machine is.
    let command = sh("sleep 300 & echo $!; wait").deadline(Duration::from_secs(3));
    let error = Host::new().run(&command).unwrap_err();
    let CommandError::DeadlinePassed { tail, .. } = &error else { panic!("{error:?}") };
    let pid: i32 = tail[0].parse().unwrap();
    // Gone, or a zombie that its new parent has not read yet.
    let is_gone = || {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        state.is_empty() || state.contains(") Z")
    };
    let end = Instant::now() + Duration::from_secs(30);
    while !is_gone() && Instant::now() < end {
        std::thread::yield_now();
    }
    assert!(is_gone());
}

#[test]
fn a_flood_ends_at_its_deadline_and_is_not_kept() {
    let mut lines = 0_u64;
    let command = Command::new("yes").deadline(Duration::from_secs(2));
    let error = Host::new().run_with_lines(&command, &mut |_, _| lines += 1).unwrap_err();
    assert!(matches!(error, CommandError::DeadlinePassed { .. }), "{error:?}");
    assert!(lines > 0 && error.tail().len() == TAIL_LINES);
    let output = Host::new().run_with_lines(&sh("echo out; echo err >&2"), &mut |_, _| ()).unwrap();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str(), output.tail.len()), ("", "", 2));
}

#[test]
fn a_long_output_arrives_whole() {
    let output = Host::new().run(&sh("head -c 5000000 /dev/zero; echo; seq 100000")).unwrap();
    let (first, rest) = output.stdout.split_once('\n').unwrap();
    assert_eq!((first.len(), rest.lines().count()), (5_000_000, 100_000));
    assert!(rest.ends_with("99999\n100000\n"));
}

#[test]
fn a_cancellation_ends_a_running_program() {
    let cancel = Cancel::new().unwrap();
    let host = Host::new().with_cancel(cancel.clone());
    let error = host
        .run_with_lines(&sh("echo ready; sleep 300"), &mut |_, line| {
            if line == "ready" {
                cancel.request();
            }
        })
        .unwrap_err();
    assert!(matches!(error, CommandError::Cancelled { .. }), "{error:?}");
}

#[test]
fn a_missing_program_and_a_missing_directory_are_told_apart() {
    let missing = Host::new().run(&Command::new("no-such-program")).unwrap_err();
    assert_eq!(missing.to_string(), "command not found: `no-such-program`");
    let nowhere = Host::new().run(&Command::new("true").directory("/no/where")).unwrap_err();
    assert_eq!(nowhere.to_string(), "cannot run `cd /no/where && true`: there is no directory `/no/where`");
}

#[test]
fn secrets_reach_the_program_and_nothing_else() {
    let mut variables = crate::Variables::new();
    variables.set("TOKEN", "hunter22");
    let host =
        Host::new().with_variables(variables).with_redactor(crate::Redactor::new(["hunter22".to_owned()]));
    let command = sh("echo $TOKEN; exit 1").with_site_variables();
    let error = host.run(&command).unwrap_err();
    assert_eq!(error.tail(), ["***"]);
    assert!(host.run(&sh("test -z \"$TOKEN\"")).is_ok(), "only the site's programs see it");
}

#[test]
fn at_low_priority_a_program_and_what_it_starts_is_nice() {
    let nice = |host: &Host| {
        // The line is read when the program is under way.
        let mut process = Process::start_dialogue(host, &sh("read line; nice")).unwrap();
        process.write_line("go").unwrap();
        process.finish(&mut |_, _| ()).unwrap().stdout.trim().parse::<i32>().unwrap()
    };
    let usual = nice(&Host::new());
    let low = Host::new().with_low_priority(true);
    assert_eq!(nice(&low), usual.max(NICE));
    assert_eq!(nice(&low.with_low_priority(false)), usual);
}

#[test]
fn a_dialogue_answers_line_by_line() {
    let command = sh("while read line; do echo \"got $line\"; done; echo bye");
    let mut process = Process::start_dialogue(&Host::new(), &command).unwrap();
    process.write_line("one").unwrap();
    let answer = process.read_line(Some(Duration::from_secs(10)), &mut |_, _| ()).unwrap();
    assert_eq!(answer.as_deref(), Some("got one"));
    process.close_input();
    let output = process.finish(&mut |_, _| ()).unwrap();
    assert_eq!(output.stdout, "got one\nbye\n");
}
