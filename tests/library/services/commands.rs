//! Services with commands of their own.

use super::*;

/// A service that is a file: present when it runs.
fn command_service(directory: &Path, stop: &[&str]) -> Service {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let manager = CommandManager {
        start: words(&["sh", "-c", "echo started as $NAME; touch up; sleep 600 & echo $! > child"]),
        stop: words(stop),
        status: words(&["test", "-e", "up"]),
        held: false,
        directory: Some(directory.to_owned()),
    };
    quick(Service::new("redis", Role::Worker, Manager::Command(manager)))
}

fn end_child(directory: &Path) {
    if let Some(pid) =
        fs::read_to_string(directory.join("child")).ok().and_then(|text| text.trim().parse().ok())
    {
        signal(Signal::KILL, pid);
    }
}

#[test]
fn commands_start_stop_and_ask() {
    let directory = tempfile::tempdir().unwrap();
    let service = command_service(directory.path(), &["rm", "up"]);
    assert_eq!(state(&service).status, Status::Stopped);
    perform(&service, Goal::Running).unwrap();
    end_child(directory.path());
    perform(&service, Goal::StaysUp).unwrap();
    perform(&service, Goal::Stopped).unwrap();
    perform(&service, Goal::Stopped).unwrap();
    assert!(!directory.path().join("up").exists());

    let Manager::Command(commands) = service.manager.clone() else { panic!("made so") };
    let with = |commands: CommandManager| Service { manager: Manager::Command(commands), ..service.clone() };
    let idle = with(CommandManager { start: vec!["true".to_owned()], ..commands.clone() });
    let idle = Service { start_timeout: Duration::from_millis(200), ..idle };
    let error = perform(&idle, Goal::Running).unwrap_err();
    assert!(matches!(error, ServiceError::NotStarted { .. }), "{error:?}");
    let failing = with(CommandManager {
        start: ["sh", "-c", "echo no port; exit 4"].map(str::to_owned).into(),
        ..commands.clone()
    });
    let error = perform(&failing, Goal::Running).unwrap_err();
    assert_eq!(error.to_string(), "service `redis`: its start command failed");
    assert_eq!(error.tail(), ["no port"]);
    for status in [&["no-such-program"][..], &["sh", "-c", "no-such-program ping"]] {
        let status = status.iter().map(|word| (*word).to_owned()).collect();
        let blind = with(CommandManager { status, ..commands.clone() });
        let error = perform(&blind, Goal::Stopped).unwrap_err();
        assert!(
            matches!(error, ServiceError::Command { what: "status", .. }),
            "not knowing is not stopped: {error:?}"
        );
    }
    let mute = with(CommandManager { status: Vec::new(), ..commands });
    assert_eq!(mute.state(&Host::new()).unwrap_err().to_string(), "service `redis` has no `status`");
}

#[test]
fn a_stop_command_that_stops_nothing_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("up"), "").unwrap();
    let service =
        Service { stop_timeout: Duration::from_millis(300), ..command_service(directory.path(), &["true"]) };
    let error = perform(&service, Goal::Stopped).unwrap_err();
    assert!(matches!(error, ServiceError::NotStopped { .. }), "{error:?}");
    let error = perform(&command_service(directory.path(), &[]), Goal::Stopped).unwrap_err();
    assert!(matches!(error, ServiceError::CannotStop { .. }), "{error:?}");
    let required = Service { role: Role::Required, ..command_service(directory.path(), &["rm", "up"]) };
    perform(&required, Goal::Stopped).unwrap();
    assert!(directory.path().join("up").exists(), "others rely on it");
}

#[test]
fn a_sudo_that_refuses_is_not_taken_for_a_stopped_service() {
    // sudo itself cannot be had in every test; what matters is that its refusal is told from the service's own answer.
    let directory = tempfile::tempdir().unwrap();
    let sudo = directory.path().join("sudo");
    fs::write(
        &sudo,
        "#!/bin/sh\nprintf '%s\\n' \"$*\" >> asked\ntest -e allowed || { echo a password is required; exit 1; }\n\
                      shift\ntest \"$1\" = -l && exit 0\nexec \"$@\"\n",
    )
    .unwrap();
    fs::set_permissions(&sudo, fs::Permissions::from_mode(0o755)).unwrap();
    let mut variables = Variables::new();
    variables.set("PATH", format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap()));
    let host = Host::new().with_variables(variables);
    let service = Service { sudo: true, ..command_service(directory.path(), &["rm", "up"]) };
    let error = service.state(&host).unwrap_err();
    assert_eq!(error.tail(), ["a password is required"]);
    fs::write(directory.path().join("allowed"), "").unwrap();
    assert_eq!(service.state(&host).unwrap().status, Status::Stopped);
    fs::write(directory.path().join("up"), "").unwrap();
    assert_eq!(service.state(&host).unwrap().status, Status::Running);
    assert!(fs::read_to_string(directory.path().join("asked")).unwrap().ends_with("-n test -e up\n"));
}
