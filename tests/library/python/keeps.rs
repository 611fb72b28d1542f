//! What `pip install -U -r` leaves alone stays in the next virtualenv, too.

use super::*;
use std::os::unix::fs::PermissionsExt;

#[test]
fn dependencies_move_only_as_far_as_needed() {
    for (installer, tool) in tools() {
        let site = PythonSite::new();
        for (name, version, requires) in [
            ("alpha", "1.0", &["delta", "epsilon"][..]),
            ("delta", "1.0", &[]),
            ("epsilon", "1.0", &[]),
            ("alpha", "2.0", &["delta", "epsilon>=2"]),
            ("delta", "2.0", &[]),
            ("epsilon", "2.0", &[]),
            ("epsilon", "3.0", &["Requires-Python: >=3.99"]),
        ] {
            site.wheel(name, version, requires);
        }
        site.install_by_hand(&["alpha==1.0", "delta==1.0", "epsilon==1.0"]);
        site.require("alpha\n");
        let lazy = operation(&site, installer);
        let eager = PipInstall { upgrade: UpgradeStrategy::Eager, ..lazy.clone() };
        let expected = ["alpha 1.0 → 2.0", "epsilon 1.0 → 2.0"];
        assert_eq!(changes(&ready(&lazy, &site.host())), expected, "{}", tool.name());
        let expected = ["alpha 1.0 → 2.0", "delta 1.0 → 2.0", "epsilon 1.0 → 2.0"];
        assert_eq!(changes(&ready(&eager, &site.host())), expected, "{}", tool.name());
        // What is named moves, even if something else depends on it.
        site.require("alpha\ndelta\n");
        assert_eq!(changes(&ready(&lazy, &site.host())), expected, "{}", tool.name());
    }
}

#[test]
fn what_no_requirement_asks_for_stays_until_one_asked_for_it() {
    for (installer, tool) in tools() {
        let site = outdated();
        let outside = site.directory.path().join("private-1.0-py3-none-any.whl");
        fs::rename(site.wheel("private", "1.0", &[]), &outside).unwrap();
        site.wheel("tool", "1.0", &["alpha<2"]);
        site.wheel("edited", "1.0", &[]);
        site.install_by_hand(&["tool", "edited", &outside.to_string_lossy()]);
        let edited = packages(&site.virtualenv).join("edited.py");
        let original = fs::read_to_string(&edited).unwrap();
        fs::write(&edited, original.clone() + "# by hand\n").unwrap();

        let mut operation = operation(&site, installer);
        let first = ready(&operation, &site.host());
        assert_eq!(changes(&first), CHANGES, "{}", tool.name());
        first.switch.perform().unwrap();
        for name in ["gone", "tool", "edited", "private"] {
            assert_eq!(site.live(name, &[]), format!("{name} 1.0"), "{}", tool.name());
        }
        assert_eq!(fs::read_to_string(packages(&site.virtualenv).join("edited.py")).unwrap(), original);
        let told = first.warnings.join("\n");
        for part in
            ["asks for them: edited 1.0, gone 1.0, private 1.0, tool 1.0", "`edited.py`", "conflicts: "]
        {
            assert!(told.contains(part), "{}: {part}: {told}", tool.name());
        }

        // What the requirements asked for at the last update and ask for no more goes.
        operation.record = Some(first.record);
        site.require("-r base.txt\n");
        let second = ready(&operation, &site.host());
        assert_eq!(changes(&second), ["- beta 1.0", "- gamma 3.0"], "{}", tool.name());
        second.switch.perform().unwrap();
        assert_eq!(site.live("private", &[]), "private 1.0");
        assert!(!site.virtualenv.join("bin/beta").exists());
    }
}

#[test]
fn what_people_put_into_a_virtualenv_goes_along() {
    for (installer, tool) in tools() {
        let site = outdated();
        let live = |name: &str| site.virtualenv.join(name);
        let activate = fs::read_to_string(live("bin/activate")).unwrap();
        fs::write(live("bin/activate"), activate + "export SHOP_MODE=live\n").unwrap();
        fs::write(
            live("bin/nightly"),
            format!("#!{}/bin/python\nimport alpha\nalpha.main()\n", site.virtualenv.display()),
        )
        .unwrap();
        fs::set_permissions(live("bin/nightly"), fs::Permissions::from_mode(0o750)).unwrap();
        fs::write(
            packages(&site.virtualenv).join("sitecustomize.py"),
            "import builtins\nbuiltins.MINE = 7\n",
        )
        .unwrap();
        fs::create_dir(packages(&site.virtualenv).join("extra")).unwrap();
        fs::write(packages(&site.virtualenv).join("extra/patch.py"), "").unwrap();
        fs::write(live("pip.conf"), "[global]\ntimeout = 9\n").unwrap();
        let next = ready(&operation(&site, installer), &site.host());
        let told = next.warnings.join("\n");
        assert!(told.contains("no package brought it: `bin/nightly`,"), "{}: {told}", tool.name());

        let first = next.staged.clone();
        next.switch.perform().unwrap();
        let look = || {
            let shell = [
                "-c",
                ". \"$0/bin/activate\" && echo $SHOP_MODE && exec python -c 'import extra.patch; print(MINE)'",
            ];
            let mut command = std::process::Command::new("sh");
            assert_eq!(run(command.args(shell).arg(&site.virtualenv)), "live\n7\n", "{}", tool.name());
            assert_eq!(fs::read_to_string(live("pip.conf")).unwrap(), "[global]\ntimeout = 9\n");
        };
        look();
        assert_eq!(site.live("nightly", &[]), "alpha 2.0");

        // From one virtualenv to the next, with what was edited since.
        let mine = packages(&site.virtualenv).join("sitecustomize.py");
        fs::write(mine, "import builtins\nbuiltins.MINE = 3 + 4\n").unwrap();
        fs::write(live("bin/where"), format!("#!/bin/sh\necho {}/bin\n", first.display())).unwrap();
        fs::set_permissions(live("bin/where"), fs::Permissions::from_mode(0o755)).unwrap();
        site.wheel("alpha", "2.5", &[]);
        let second = ready(&operation(&site, installer), &site.host());
        second.switch.perform().unwrap();
        look();
        assert_eq!(site.live("nightly", &[]), "alpha 2.5");
        let place = format!("{}/bin", second.staged.display());
        assert_eq!(site.live("where", &[]), place, "its old place is written anew");
        second.back.perform().unwrap();
        assert_eq!(site.live("nightly", &[]), "alpha 2.0");
    }
}

#[test]
fn a_virtualenv_that_was_edited_since_is_built_anew() {
    let site = outdated();
    let operation = operation(&site, Installer::Pip);
    let first = ready(&operation, &site.host());
    assert!(ready(&operation, &site.host()).reused);
    fs::write(site.virtualenv.join("pip.conf"), "[global]\ntimeout = 9\n").unwrap();
    let second = ready(&operation, &site.host());
    assert!(!second.reused && second.staged.join("pip.conf").is_file());
    assert_ne!(second.staged, first.staged);
}

#[test]
fn the_index_of_the_virtualenv_counts() {
    let site = outdated();
    let [private, public] = ["private", "public"].map(|name| site.directory.path().join(name));
    for directory in [&private, &public] {
        fs::create_dir(directory).unwrap();
        let source =
            format!("def main():\n    print({:?})\n", directory.file_name().unwrap().to_string_lossy());
        fs::rename(site.wheel_of("alpha", "3.0", &[], &source), directory.join("alpha-3.0-py3-none-any.whl"))
            .unwrap();
    }
    let [private, public] = [private, public].map(|directory| Index::serve(vec![directory]));
    site.requirements("alpha\n");
    fs::write(site.virtualenv.join("pip.conf"), format!("[global]\nindex-url = {}\n", private.url)).unwrap();
    let users = site.directory.path().join("pip.conf");
    fs::write(&users, format!("[global]\nindex-url = {}\n", public.url)).unwrap();
    // pip's own order: the file of a variable comes after that of the virtualenv; that of the user before it.
    fs::create_dir_all(site.directory.path().join(".config/pip")).unwrap();
    fs::rename(&users, site.directory.path().join(".config/pip/pip.conf")).unwrap();
    let host = site.host_with(&[("PIP_CONFIG_FILE", ""), ("XDG_CONFIG_HOME", "")]);
    let ready = ready(&operation(&site, Installer::Auto), &host);
    ready.switch.perform().unwrap();
    assert_eq!(site.live("alpha", &[]), "private");
    if site.uv.is_some() {
        site.wheel("alpha", "4.0", &[]);
        let error = operation(&site, Installer::Uv).build(&host).unwrap_err();
        assert!(matches!(error, PythonError::IndexOfPip { .. }), "{error:?}");
    }
}

#[test]
fn a_virtualenv_in_the_checkout_stays_hidden_from_git() {
    let mut site = outdated();
    let inside = site.checkout.join("my venv");
    fs::rename(&site.virtualenv, &inside).unwrap();
    site.virtualenv = inside;
    let git = |args: &[&str]| run(std::process::Command::new("git").arg("-C").arg(&site.checkout).args(args));
    git(&["init", "-q"]);
    fs::write(site.checkout.join(".gitignore"), "/.gitignore\n/*.txt\n/my venv/\n").unwrap();
    let exclude = site.checkout.join(".git/info/exclude");
    let before = (fs::read_to_string(&exclude).ok(), tree_hash(&site.virtualenv));
    let Check::Change(change) = operation(&site, Installer::Pip).check(&site.host()).unwrap() else {
        panic!()
    };
    let mut context = Context::from(site.host());
    operations::perform(&change, &mut context).unwrap();
    let original = site.checkout.join(".my venv.deploykit-original");
    assert_eq!(git(&["status", "--porcelain"]), "");
    git(&["clean", "-q", "-f", "-d"]);
    assert!(look(&site.virtualenv) != Found::Nothing && original.join("bin/python").exists());

    // Another change has nothing to hide any more, and takes nothing back with it.
    site.wheel("alpha", "2.5", &[]);
    let Check::Change(second) = operation(&site, Installer::Pip).check(&site.host()).unwrap() else {
        panic!()
    };
    operations::perform(&second, &mut context).unwrap();
    operations::undo(&second, &mut context).unwrap();
    assert_eq!(git(&["status", "--porcelain"]), "");
    operations::undo(&change, &mut context).unwrap();
    assert_eq!((fs::read_to_string(&exclude).ok(), tree_hash(&site.virtualenv)), before);
}
